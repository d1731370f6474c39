"use strict";
const bar = document.getElementById("bar");
const said = document.getElementById("said");

async function look() {
  try {
    const answer = await fetch(`${location.pathname}/state`);
    const { state, read, total, ahead } = await answer.json();
    if (state === "done" || state === "failed") {
      location.reload();
      return;
    }
    if (ahead > 1) said.textContent = `${ahead - 1} others are read before`;
    else if (ahead) said.textContent = "It is the next";
    else if (total) {
      bar.max = total;
      bar.value = read;
      said.textContent = `${read} of ${total} texts, sounds and pictures are read`;
    } else said.textContent = "The model is being loaded";
    setTimeout(look, 300);
  } catch {
    said.textContent = "The page does not answer any more; load it again.";
  }
}
look();
