"use strict";
for (const section of document.querySelectorAll("section.dialogue")) {
  const { cues, media, colours } = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
  const player = section.querySelector(".player");
  const note = section.querySelector(".player-note");
  const detail = section.querySelector(".detail");
  const buttons = cues.map((cue) => section.querySelector(`.cue[data-number="${cue.number}"]`));
  const rows = cues.map((cue) => section.querySelector(`tr[data-number="${cue.number}"]`));
  const arcs = [...section.querySelectorAll(".arcs path")];
  let playing = media.length ? 0 : null; // the number of the medium in the player

  const element = (tag, text, className) => {
    const made = document.createElement(tag);
    made.textContent = text;
    made.className = className || "";
    return made;
  };

  const bars = (title, pairs, fill) => {
    const box = element("div", "", "bars");
    for (const [name, value] of pairs) {
      const bar = element("div", "", "bar");
      const [colour, striped] = (fill && colours[name]) || ["#555", false];
      bar.style.setProperty("--fill", colour);
      bar.style.width = `${100 * value}%`;
      bar.classList.toggle("striped", striped);
      box.append(element("span", name), bar, element("span", `${(100 * value).toFixed(1)} %`, "value"));
    }
    return pairs.length ? [element("h3", title), box] : [];
  };

  const show = (number) => {
    const cue = cues[number];
    const head = `${number + 1}. ${cue.speaker}${cue.time ? `, ${cue.time}` : ""}: ${cue.label || "no answer"}`;
    const said = cue.text ? [element("p", cue.text)] : [];
    const missing = cue.reason ? [element("p", `Missing or damaged: ${cue.reason}`)] : [];
    const looked = cue.links.map(([other, share]) => [`${other + 1}. ${cues[other].speaker}`, share]);
    detail.replaceChildren(
      element("h3", head), ...said, ...missing, ...bars("Probability", cue.probs, true),
      ...bars("Share of what was read", cue.shares, false), ...bars("Looked at, beside itself", looked, false));
    for (const arc of arcs) arc.classList.toggle("near", Number(arc.dataset.of) === number);
  };

  const mark = (chosen) => {
    cues.forEach((_, number) => {
      for (const each of [buttons[number], rows[number]]) {
        if (chosen.includes(number)) each.setAttribute("aria-current", "true");
        else each.removeAttribute("aria-current");
      }
    });
  };

  const seek = (number) => {
    const cue = cues[number];
    show(number);
    if (cue.media === null) {
      mark([number]);
      return;
    }
    if (playing !== cue.media) {
      playing = cue.media;
      player.src = media[playing].source;
    }
    player.currentTime = cue.start === null ? 0 : cue.start;
    mark([number]);
    player.play().catch(() => { note.textContent = `This browser cannot play ${media[playing].name}.`; });
  };

  buttons.forEach((button, number) => {
    button.addEventListener("click", () => seek(number));
    button.addEventListener("mouseenter", () => show(number));
    button.addEventListener("focus", () => show(number));
    button.addEventListener("keydown", (event) => {
      const next = { ArrowRight: number + 1, ArrowLeft: number - 1, Home: 0, End: cues.length - 1 }[event.key];
      if (next !== undefined && buttons[next]) {
        event.preventDefault();
        buttons[next].focus();
      }
    });
    rows[number].querySelector("button").addEventListener("click", () => seek(number));
  });

  if (player) {
    player.addEventListener("error", () => { note.textContent = `${media[playing].name} cannot be played here.`; });
    player.addEventListener("timeupdate", () => {
      const now = player.currentTime;
      const here = cues.filter((cue) => cue.media === playing);
      const heard = here.filter((cue) => cue.start === null || (cue.start <= now && now < cue.end));
      if (!player.paused || heard.length) mark(heard.map((cue) => cue.number));
    });
  }
}
