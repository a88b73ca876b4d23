"use strict";
// Everything is readable without this; it filters rows and copies commands.
const form = document.querySelector("form");
const rows = [...document.querySelectorAll("#rows tbody tr")];
const shown = document.querySelector("#shown");

function filter() {
  const chosen = [...form.querySelectorAll("select")].map((each) => [each.name, each.value]);
  const text = form.elements.text.value.toLowerCase();
  const failures = form.elements.failures.checked;
  let count = 0;
  for (const row of rows) {
    const fits = chosen.every(([name, value]) => value === "" || row.dataset[name] === value)
      && (!failures || row.classList.contains("failed"))
      && (text === "" || row.textContent.toLowerCase().includes(text));
    row.hidden = !fits;
    count += fits;
  }
  shown.textContent = String(count);
}

form.hidden = false;
form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
for (const code of document.querySelectorAll("td.repeat code")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent));
  code.after(" ", button);
}
filter();
