"use strict";
// Search, filter and sort of the worklist. Without this script all rows are there to read, group by group.
(() => {
  const LIMIT = 200;
  const list = document.getElementById("worklist");
  const tools = document.getElementById("tools");
  const [search, reason, provider, order] = tools ? tools.querySelectorAll("input, select") : [];
  const rowsOf = (group) => [...group.querySelectorAll("tbody tr")];

  // The rows of a closed group wait in a noscript element, as text: thousands of them cost nothing until then.
  const build = (group) => {
    const waiting = group.querySelector("noscript");
    if (!waiting) return;
    const fresh = document.createElement("template");
    fresh.innerHTML = waiting.textContent;
    waiting.replaceWith(fresh.content);
    number(group);
    sortRows(group);
    limit(group, rowsOf(group));
  };
  const number = (group) => rowsOf(group).forEach((row, place) => { row.place = place; });
  const limit = (group, rows, most = LIMIT) => {
    rows.forEach((row, place) => { row.hidden = place >= most; });
    group.querySelector(".more")?.remove();
    if (rows.length <= most) return;
    const more = document.createElement("button");
    more.className = "more";
    more.textContent = `Show all ${rows.length.toLocaleString("en")}`;
    more.onclick = () => limit(group, rows, Infinity);
    group.append(more);
  };

  const since = (row) => row.querySelector("time")?.dateTime ?? "";
  const ORDERS = {
    urgent: [(group) => group.place, (row) => row.place],
    oldest: [(group) => group.dataset.oldest, since],
    newest: [(group) => group.dataset.newest, since],
    name: [(group) => group.owner, (row) => row.querySelector(".who").textContent.trim().toLowerCase()],
  };
  const arrange = (parts, key, isDown) => {
    const keyed = parts.map((part) => [key(part), part]);
    const compare = (one, two) => (typeof one === "number" ? one - two : one.localeCompare(two));
    keyed.sort(([one], [two]) => (isDown ? compare(two, one) : compare(one, two)));
    keyed.forEach(([, part]) => part.parentElement.append(part));
  };
  const sortRows = (group) => arrange(rowsOf(group), ORDERS[order.value][1], order.value === "newest");

  const go = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    if (!id) return;
    if (!document.getElementById(id)) {
      const group = groups.find((one) => one.querySelector("noscript")?.textContent.includes(`id="${id}"`));
      if (group) build(group);
    }
    const place = document.getElementById(id);
    if (!place) return;
    place.hidden = false;
    for (let one = place.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
    const history = place.querySelector("details");
    if (history) history.open = true;
    place.scrollIntoView();
  };

  const groups = list ? [...list.querySelectorAll("details.group")] : [];
  groups.forEach(number);
  addEventListener("hashchange", go);
  go();
  if (!list) return;

  const found = tools.querySelector("output");
  tools.hidden = false;
  groups.forEach((group, place) => {
    group.place = place;
    group.wasOpen = group.open;
    group.owner = group.querySelector(".owner").textContent.trim().toLowerCase();
  });

  const words = () => search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;")
    .replace(/'/g, "&#39;").replace(/"/g, "&#34;");
  // whether a group that is not built yet can have a row: its text has all that is asked for
  const possible = (group, asked) => {
    const waiting = group.querySelector("noscript");
    if (!waiting) return true;
    const text = waiting.textContent.toLowerCase();
    return asked.every((word) => group.owner.includes(word) || text.includes(escaped(word)));
  };
  const matches = (row, group, asked) => {
    const [who, what, todo] = row.cells;
    if (reason.value && todo.dataset.reason !== reason.value) return false;
    if (provider.value && what.dataset.provider !== provider.value) return false;
    const text = `${group.owner} ${who.querySelector(".who").textContent} ${what.textContent}`.toLowerCase();
    return asked.every((word) => text.includes(word));
  };

  const filter = () => {
    const asked = words();
    const filters = [reason.value, provider.value].filter(Boolean);
    const isFiltered = asked.length + filters.length > 0;
    let shown = 0;
    const left = [];
    for (const group of groups) {
      if (!isFiltered) {
        group.hidden = false;
        group.open = group.wasOpen;
        limit(group, rowsOf(group));
        continue;
      }
      let rows = [];
      if (possible(group, [...asked, ...filters.map((text) => text.toLowerCase())])) {
        build(group);
        const all = rowsOf(group);
        rows = all.filter((row) => matches(row, group, asked));
        if (rows.length < all.length) all.forEach((row) => { row.hidden = true; });
        limit(group, rows);
      }
      group.hidden = rows.length === 0;
      group.open = false;
      shown += rows.length;
      if (rows.length) left.push(group);
    }
    // what is found is seen at once, unless it is long
    if (isFiltered && shown <= LIMIT) left.forEach((group) => { group.open = true; });
    found.textContent = isFiltered ? `${shown.toLocaleString("en")} found` : "";
  };

  const sort = () => {
    arrange(groups, ORDERS[order.value][0], order.value === "newest");
    groups.forEach(sortRows);
    filter();
  };

  let waiting;
  search.oninput = () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); };
  reason.onchange = provider.onchange = filter;
  order.onchange = sort;
  list.addEventListener("toggle", ({ target }) => {
    if (target.open) build(target);
  }, true);
  // on paper everybody stands, or all that were found
  addEventListener("beforeprint", () => {
    for (const group of groups.filter((one) => !one.hidden)) {
      build(group);
      group.querySelector(".more")?.click();
      group.open = true;
    }
  });
})();
