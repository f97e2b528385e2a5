// Shows the phones again whenever the server says that one of them may have changed.
"use strict";

const phones = document.getElementById("phones");
let asked = false;
let again = false;

async function show() {
  if (asked) {
    again = true;
    return;
  }
  asked = true;
  try {
    const answer = await fetch("/phones");
    if (answer.ok) {
      phones.innerHTML = await answer.text();
    }
  } finally {
    asked = false;
    if (again) {
      again = false;
      show();
    }
  }
}

new EventSource("/events").addEventListener("message", show);
