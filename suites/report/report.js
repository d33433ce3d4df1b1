"use strict";
// Without this script the page shows the same; with it tables sort and filter, and the form at the top answers.

// A number sorts as it reads, in its own unit; page.py writes down only what sorts otherwise.
const units = {"": 1, "×": 1, "%": .01, s: 1, ms: 1e-3, "µs": 1e-6, ns: 1e-9, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30};
function read(text) {
  if (text === "–") return "";
  const found = text.match(/^(\d[\d\u00a0]*(?:\.\d+)?(?:e[+-]?\d+)?)\u00a0?(×|%|[mµn]?s|[KMG]iB|B)?(?: – .*)?$/);
  return found ? String(found[1].replaceAll("\u00a0", "") * units[found[2] ?? ""]) : text;
}

for (const table of document.querySelectorAll("table")) {
  const body = table.tBodies[0];
  const key = (row, column) => row.cells[column].dataset.s ?? read(row.cells[column].textContent);
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a, column), y = key(b, column);
        if (x === "" || y === "") return (x === "") - (y === "");
        const order = x - y || x.localeCompare(y, undefined, {numeric: true});
        return down ? -order : order;
      });
      body.append(...rows);
    });
    head.append(button);
  });
  if (body.rows.length < 13) continue;
  const input = Object.assign(document.createElement("input"), {type: "search", placeholder: "Filter rows: all of these words"});
  input.setAttribute("aria-label", `Filter the rows of ${table.caption.textContent}`);
  const left = document.createElement("span");
  left.setAttribute("role", "status");
  const bar = document.createElement("p");
  bar.className = "filter";
  bar.append(input, left);
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase().replaceAll("\u00a0", " ");
      row.hidden = !wanted.every(word => text.includes(word));
      count += !row.hidden;
    }
    left.textContent = wanted.length ? `${count} of ${body.rows.length} rows` : "";
  });
  table.parentNode.before(bar);
}

// A number leads to its row: open what hides it.
function reveal() {
  const row = document.getElementById(location.hash.slice(1));
  if (!row) return;
  for (let at = row; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  if (row.hidden) {
    const input = row.closest(".scroll").previousElementSibling.querySelector("input");
    input.value = "";
    input.dispatchEvent(new Event("input"));
  }
  if (row.tagName === "TR") row.scrollIntoView({block: "center"});
}
addEventListener("hashchange", reveal);
reveal();

addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.fold")) fold.open = true;
});

const form = document.querySelector(".picker");
if (form) {
  const picks = JSON.parse(document.querySelector(".picks").textContent);
  const {operation, group, sparsity, level, answer} = form.elements;
  for (const name of Object.keys(picks)) operation.add(new Option(picks[name].title, name));
  const fill = () => group.replaceChildren(...picks[operation.value].groups.map((one, i) => new Option(one.title, i)));
  const gain = one => one.steps[80].length ? one.steps[80][0][1] : 0;
  const begin = groups => groups.reduce((best, one, i) => gain(one) > gain(groups[best]) ? i : best, 0);
  const link = (one, i) => Object.assign(document.createElement("a"), {href: "#" + one.links[i], textContent: one.names[i]});
  const show = () => {
    const one = picks[operation.value].groups[group.value];
    const [first, next] = one.steps[sparsity.value];
    level.textContent = `${sparsity.value}\u00a0% sparsity`;
    if (!first) {
      const known = sparsity.value <= 100 * one.end + 0.5;
      answer.replaceChildren(known ? "Stay dense: nothing is known to be faster there." : "Not measured there.");
      return;
    }
    const [place, speedup, measured] = first;
    const told = ["Use ", link(one, place), `: ${measured ? "" : "about "}${speedup}× as fast as dense`];
    if (next && speedup / next[1] < 1.05) told.push(", level with ", link(one, next[0]), ".");
    else if (next) told.push(`, ${(speedup / next[1]).toPrecision(2)}× the next, `, link(one, next[0]), ".");
    else told.push("; nothing else beats dense there.");
    answer.replaceChildren(...told);
  };
  operation.addEventListener("input", () => { fill(); show(); });
  group.addEventListener("input", show);
  sparsity.addEventListener("input", show);
  form.addEventListener("submit", event => event.preventDefault());
  fill();
  group.value = begin(picks[operation.value].groups);
  show();
  form.hidden = false;
}
