"""The phrases at the beginning of an utterance. A line on the dialogue's topic follows them (`topics.toml`).

The words show which of four groups the emotion belongs to: neutral, joy or surprise, anger or disgust, sadness or fear.
Every line of a topic fits both emotions of its group. Only the phrases in `OWN` belong to one emotion.
"""

GROUP = {
    "neutral": "plain",
    "joy": "bright",
    "surprise": "bright",
    "anger": "harsh",
    "disgust": "harsh",
    "sadness": "low",
    "fear": "low",
}

# Phrases that either emotion of a group may open with.
SHARED = {
    "plain": ("Okay.", "All right.", "Let me see.", "By the way.", "Sure.", "One moment.", "Anyway."),
    "bright": ("Oh wow!", "No way!", "Amazing!", "Look at that!", "How wonderful!", "My goodness!", "Fantastic!"),
    "harsh": ("Ugh.", "Come on.", "This is awful.", "I can't stand this.", "I hate this.", "Not again.", "Horrible."),
    "low": ("Oh no.", "Oh dear.", "Please, no.", "Poor me.", "I feel so alone.", "Hold my hand.", "It's hopeless."),
}

# Phrases that only one emotion opens with, so that words tell a part of the label within a group.
OWN = {
    "neutral": (),
    "joy": ("I'm so happy!", "I love it!", "Hooray!"),
    "surprise": ("Wait, really?", "What, already?", "Since when?"),
    "anger": ("I'm furious.", "Stop that right now.", "How dare you."),
    "disgust": ("Yuck.", "That's disgusting.", "So gross."),
    "sadness": ("I could cry.", "It breaks my heart.", "I'm so sad."),
    "fear": ("I'm so scared.", "My hands are shaking.", "I'm afraid."),
}

# Lines that fit any emotion, for utterances whose words must tell nothing.
WEAK = (
    "Well, here we are.",
    "You heard about the {x}.",
    "So that was {y}.",
    "And then there is the {x}.",
    "I just spoke with {y}.",
    "Now you know.",
    "That was the {x}, then.",
    "Ask {y} about it.",
)
