/* The page: keeps the list of sentences encoded, and shows those that are closest to a question. */

import { Encoder, fetchFile, similarity } from "./encoder.js";

const SHOWN = 10; // results at first, and more with every "Show more"
const TYPING = 300; // ms without a key, after which a text counts as typed
const LANGUAGE = /^([a-z]{2,3}(?:_[A-Za-z0-9]+)*)\t(.*)$/s; // as in `lightxling search`

const KEPT = `lightxling ${location.pathname}`; // list and question, in this browser

const element = (id) => document.getElementById(id);
const vectors = new Map(); // of sentences, by their text
const long = new Set(); // sentences of which only the beginning was read
let encoder;
let entries = []; // { language, text } of the list
let ranked = []; // { language, text, score }, best first
let shown = SHOWN;
let indexing = 0; // how often the list was read; an older reading stops
let asking = 0;
let asked = "";

element("unstarted").hidden = true;
start();

async function start() {
  element("list").addEventListener("input", afterTyping(index));
  element("file").addEventListener("change", open);
  element("query").addEventListener("input", afterTyping(() => {
    if (element("query").value !== asked) ask(); // Enter may have come first
  }));
  element("ask").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  element("more").addEventListener("click", () => {
    shown += SHOWN;
    show(true);
  });
  try {
    say("state", "Loading the model …");
    element("progress").hidden = false;
    const config = JSON.parse(new TextDecoder().decode(await fetchFile("config.json")));
    prepare(config);
    encoder = await Encoder.load(config, (share) => (element("progress").value = share));
  } catch (error) {
    fail(error);
    return;
  }
  navigator.serviceWorker?.register("sw.js").catch(() => {}); // then it works without a network
  await index();
}

/** Names the languages, and fills in what was there at the last visit, or the examples. */
function prepare(config) {
  const known = config.languages.map(nameOf).sort((a, b) => a.localeCompare(b));
  element("known").hidden = !known.length;
  element("known").firstElementChild.textContent = count(known.length, "language");
  element("languages").textContent = known.join(", ");
  const kept = remembered();
  if (element("list").value || element("query").value) return; // the browser has kept it itself
  const lines = config.sentences.map(({ language, text }) => `${language}\t${text}`);
  element("list").value = kept.list || lines.join("\n");
  element("query").value = kept.list ? kept.query : config.query;
}

/** A language by its name, in that of the visitor. */
function nameOf(code) {
  try {
    const how = { type: "language", fallback: "code" };
    return new Intl.DisplayNames(navigator.languages, how).of(code.replace("_", "-"));
  } catch {
    return code; // not a code of BCP 47
  }
}

/** List and question of the last visit; a browser may refuse to keep any. */
function remembered() {
  try {
    return { list: "", query: "", ...JSON.parse(localStorage.getItem(KEPT)) };
  } catch {
    return { list: "", query: "" };
  }
}

function remember() {
  const now = { list: element("list").value, query: element("query").value };
  try {
    localStorage.setItem(KEPT, JSON.stringify(now));
  } catch {
    // more than it keeps, or none at all
  }
}

/** Takes the lines of a file for the list. */
async function open() {
  const [file] = element("file").files;
  if (!file) return;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    element("list").value = text.replace(/\r?\n$/, "");
  } catch {
    say("state", `${file.name} is not text in UTF-8.`);
    return;
  }
  await index();
}

/** Encodes the sentences of the list that have no vectors yet. */
async function index() {
  if (!encoder) return;
  const turn = ++indexing;
  remember();
  entries = read(element("list").value);
  const missing = [...new Set(entries.map(({ text }) => text))].filter((text) => !vectors.has(text));
  const total = missing.length;
  let done = 0;
  try {
    if (total) {
      element("progress").hidden = false;
      element("progress").value = 0;
      say("state", `Reading ${count(total, "sentence")} …`);
    }
    for await (const { rows, vectors: batch, cut } of encoder.encode(missing)) {
      if (turn !== indexing) return; // the list has changed; what is done is kept
      rows.forEach((row, i) => vectors.set(missing[row], batch[i]));
      cut.forEach((row) => long.add(missing[row]));
      done += rows.length;
      element("progress").value = done / total;
    }
  } catch (error) {
    fail(error);
    return;
  }
  if (turn !== indexing) return;
  const kept = new Set(entries.map(({ text }) => text));
  for (const text of vectors.keys()) if (!kept.has(text)) vectors.delete(text);
  element("progress").hidden = true;
  const cut = entries.filter(({ text }) => long.has(text)).length;
  const note = cut ? ` Of ${count(cut, "long one")} only the beginning was read.` : "";
  const ready = entries.length ? `${count(entries.length, "sentence")} ready.${note}` : "";
  say("state", ready || "The list is empty.");
  await ask();
}

/** The distinct sentences of a text with one a line, with their languages where they are given. */
function read(text) {
  const found = new Map();
  for (const line of text.split(/\r?\n/)) {
    const [, language, rest] = LANGUAGE.exec(line) ?? [null, "", line];
    if (rest.trim() && !found.has(line)) found.set(line, { language, text: rest });
  }
  return [...found.values()];
}

/** Ranks the sentences by their similarity to the question. */
async function ask() {
  if (!encoder) return;
  const turn = ++asking;
  const text = element("query").value;
  asked = text;
  remember();
  if (!text.trim()) {
    ranked = [];
    show();
    say("summary", "Type a sentence and press Enter.");
    return;
  }
  let question;
  try {
    question = await encoder.encodeOne(text);
  } catch (error) {
    fail(error);
    return;
  }
  if (turn !== asking) return;
  ranked = entries
    .filter(({ text }) => vectors.has(text))
    .map((entry) => ({ ...entry, score: similarity(question, vectors.get(entry.text)) }))
    .sort((a, b) => b.score - a.score);
  shown = SHOWN;
  show();
  say(
    "summary",
    ranked.length
      ? `The best of ${count(ranked.length, "sentence")} has ${ranked[0].score.toFixed(2)}.`
      : "There are no sentences to search in.",
  );
}

/** Writes the best of what was ranked. */
function show(isMore = false) {
  const list = element("found");
  const from = isMore ? list.children.length : 0;
  if (!isMore) list.replaceChildren();
  for (const { language, text, score } of ranked.slice(from, shown)) {
    const item = document.createElement("li");
    item.style.setProperty("--share", `${100 * Math.max(0, score)}%`);
    const sentence = piece("span", "sentence", text.trim());
    sentence.dir = "auto";
    if (language) sentence.lang = language.replace("_", "-");
    item.append(piece("span", "score", score.toFixed(2)), piece("span", "code", language), sentence);
    list.append(item);
  }
  element("more").hidden = shown >= ranked.length;
  if (isMore) {
    const first = list.children[from];
    first.tabIndex = -1;
    first.focus(); // the button may be gone, and a reader goes on from here
  }
}

function piece(name, kind, text) {
  const made = document.createElement(name);
  made.className = kind;
  made.textContent = text;
  return made;
}

/** Says what went wrong. */
function fail(error) {
  console.error(error);
  element("progress").hidden = true;
  say("state", "");
  element("problem").textContent = `The model does not run. ${error.message || error}`;
  element("problem").hidden = false;
}

/** Changes a live region only where its text changes, so that it is read out once. */
function say(id, text) {
  if (element(id).textContent !== text) element(id).textContent = text;
}

function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

function afterTyping(action) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, TYPING);
  };
}
