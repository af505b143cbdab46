// What is shown as a table for elsewhere: Markdown for an issue, CSV for a spreadsheet.

// A text that a spreadsheet would take for a formula gets an apostrophe before it. RFC 4180 has the quotes.
function csvCell(value) {
  if (value === undefined) return "";
  const text = value === null ? "NaN" : String(value);
  const safe = /^[=+\-@\t\r]/.test(text) && !isNumeric(value) ? "'" + text : text;
  return /[",\r\n]/.test(safe) ? '"' + safe.replace(/"/g, '""') + '"' : safe;
}

// The values as they are, not rounded, in seconds and bytes; of a metric that moved also how much.
function csvOf(nodes, columns) {
  const all = columns.flatMap((column) => (column.moved && nodes.some(column.moved) && !columns.some(({ key }) => key === MOVED + column.name)
    ? [column, { key: MOVED + column.name, of: column.moved }] : [column]));
  const headings = all.map(({ key, heading = key }) => csvCell(heading));
  const raw = (column, node) => {
    const value = column.of(node);
    return value === undefined ? value : column.key === "status" ? node.row.status : column.key === "started" ? node.row.started : value;
  };
  return [headings, ...nodes.map((node) => all.map((column) => csvCell(raw(column, node))))].map((cells) => cells.join(",") + "\r\n").join("");
}

// As it is read. A cell stays one cell, and no markup.
function markdownOf(nodes, columns) {
  const cell = (text) => text.replace(/[\\`*|<>[\]]|(?<!\w)_|_(?!\w)/g, "\\$&").replace(/\s+/g, " ");
  const line = (cells) => "| " + cells.join(" | ") + " |";
  const isRight = (column) => nodes.some((node) => isNumeric(column.of(node))) && column.group !== "own";
  return [line(columns.map(({ title }) => cell(title))), line(columns.map((column) => (isRight(column) ? "---:" : "---"))),
    ...nodes.map((node) => line(columns.map((column) => cell(cellText(column, node)))))].join("\n") + "\n";
}

// What a cell shows, with how much a metric moved.
function cellText(column, node) {
  const value = column.of(node);
  if (value === undefined) return "";
  const moved = column.moved ? column.moved(node) : undefined;
  return column.text(value) + (moved === undefined ? "" : " " + movementText(moved));
}

function download(text, name, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
