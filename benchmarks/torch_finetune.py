"""PyTorch's side of finetune_speed.py, run by an interpreter with torch and transformers; imports nothing of jmer.

    python benchmarks/torch_finetune.py FILE.npz '{"model": DIR, "packed": true, "bf16": true}'

Answers the requests of `step_worker`. Hugging Face's BertModel with PyTorch's scaled dot-product attention, a linear
head on the mean of each utterance's tokens, AdamW, gradients cut to a norm of 1. The token embeddings are not trained,
as in jmer. `padded`: a batch is some dialogues, padded to the longest. `packed`: jmer's rows, with a mask that keeps
dialogues apart.
"""

# pyright: reportMissingImports=false
import json
import platform
import sys
from typing import Any

import numpy as np
import torch
import transformers
from step_worker import seconds, serve
from torch import nn
from torch.nn.functional import cross_entropy


class Classifier(nn.Module):
    def __init__(self, model: str, *, classes: int, dropout: float):
        super().__init__()
        self.encoder: Any = transformers.AutoModel.from_pretrained(
            model, dtype=torch.float32, attn_implementation="sdpa", add_pooling_layer=False
        )
        for module in self.encoder.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
        self.encoder.config.attention_probs_dropout_prob = 0.0  # jmer has none in its attention
        for layer in self.encoder.encoder.layer:
            layer.attention.self.dropout_prob = 0.0
            layer.attention.self.dropout.p = 0.0
        self.encoder.embeddings.requires_grad_(False)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(self.encoder.config.hidden_size, classes)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        states = self.encoder(
            input_ids=batch["ids"], attention_mask=batch["mask"], position_ids=batch["position"]
        ).last_hidden_state
        own = torch.nn.functional.one_hot(batch["slot"] + 1, batch["label"].shape[1] + 1)[..., 1:].to(states.dtype)
        vectors = torch.einsum("btu,btd->bud", own, states) / own.sum(1).clamp(min=1)[..., None]
        return self.head(self.dropout(vectors))


def main(path: str, settings: dict[str, Any]) -> None:
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    file = dict(np.load(path))
    kind = "packed" if settings["packed"] else "padded"
    batches = [
        {
            name: torch.from_numpy(file[f"{kind}/{i}/{name}"]).long()
            for name in ("ids", "position", "segment", "slot", "label")
        }
        for i in range(int(file["count"]))
    ]
    for batch in batches:
        segment = batch.pop("segment")
        # A mask over pairs of tokens keeps packed dialogues apart; a token of padding sees the other padding. It has an
        # axis for the heads since transformers 5.
        pairs = segment[:, :, None] == segment[:, None, :]
        apart = pairs[:, None] if transformers.__version__ >= "5" else pairs
        batch["mask"] = apart if settings["packed"] else segment > 0
    model = Classifier(settings["model"], classes=int(file["classes"]), dropout=0.1)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, weight_decay=1e-2, fused=True)

    def step(i: int) -> None:
        batch = batches[i % len(batches)]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=settings["bf16"]):
            logits = model(batch)
        loss = cross_entropy(logits.float().transpose(1, 2), batch["label"], ignore_index=-1)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()

    def timed(first: int, count: int) -> dict[str, list[float]]:
        return {"seconds": [seconds(lambda i=i: step(i)) for i in range(first, first + count)]}

    versions = {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
    serve(versions, {"steps": timed})


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
