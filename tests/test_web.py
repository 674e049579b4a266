"""The folder for browsers, in a headless Chromium: ids and vectors are those of Python, the right
sentence is found, and nothing leaves the origin."""

import base64
import dataclasses
import functools
import hashlib
import http.server
import io
import json
import shutil
import tarfile
import threading

import numpy as np
import pytest
from browser import CHROMIUM, Browser, served
from export_samples import ALPHABETS, ESCAPED, HOSTILE, KINDS, WORDS, bundle, ids, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from lightxling.base.errors import UserError
from lightxling.base.files import PACKAGE
from lightxling.encode.encoder import Encoder
from lightxling.export import export, web
from lightxling.export.formats import write_format
from lightxling.export.quantize import quantize
from lightxling.export.settings import ExportSettings
from lightxling.export.trim import reduce_dimensions
from lightxling.export.web import runtime

pytestmark = [pytest.mark.web, pytest.mark.filterwarnings("ignore:a sentence is longer")]

TEXT = [" ".join(np.random.default_rng(i).choice(WORDS, 1 + i % 9)) for i in range(60)]
PAGE = PACKAGE / "export" / "web" / "page"
PAIRS = {"the": "le", "cat": "chat", "dog": "chien", "house": "maison", "station": "gare"} | {
    "is": "est",
    "in": "dans",
    "where": "où",
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture(scope="session")
def archive():
    pytest.importorskip("onnx")
    try:
        return runtime.find_runtime()
    except UserError as error:
        pytest.skip(str(error))


def translator(layers):
    """An encoder without positions in which the words of two languages have the same vectors."""
    made = bundle(layers=layers, positions=False)
    words, places = made.params["words"].copy(), {}
    for word in (*PAIRS, *PAIRS.values()):
        (places[word],) = ids(made.tokenizer, [word])[0]
    for english, french in PAIRS.items():
        words[places[french]] = words[places[english]]
    return quantize(
        type(made)(made.config, made.params | {"words": words}, made.tokenizer, ("en", "fr")),
        "int8",
    )


@pytest.fixture(scope="module")
def encoder():
    return Encoder(translator(1))


@pytest.fixture(scope="module")
def site(encoder, archive, tmp_path_factory):
    """An exported folder and its address."""
    folder = tmp_path_factory.mktemp("site")
    write_format(encoder.bundle, folder, "web", runtime=archive)
    with served(folder) as address:
        yield folder, address


TIES = "unigram with ties"
READ = "sentences ready."
READY = "document.querySelector('#state').textContent.includes('ready')"


def found(browser):
    """What the page shows: (similarity, language, sentence) from the top."""
    rows = browser.run(
        "[...document.querySelectorAll('#found li')].map("
        "li => ['.score', '.code', '.sentence'].map(c => li.querySelector(c).textContent))"
    )
    return [(float(score), language, sentence) for score, language, sentence in rows]


def encode_there(browser, texts):
    """Vectors of the page's own encoder."""
    wanted = json.dumps(json.dumps(texts))
    rows = browser.run(
        f"""(async () => {{
          const {{ Encoder }} = await import("/encoder.js");
          const config = await (await fetch("/config.json")).json();
          window.encoder ??= await Encoder.load(config);
          const all = [];
          for await (const {{ rows, vectors }} of encoder.encode(JSON.parse({wanted})))
            rows.forEach((row, i) => (all[row] = Array.from(vectors[i])));
          return all;
        }})()"""
    )
    return np.array(rows, np.float32)


# The tokenizer


@functools.cache
def models():
    """All kinds of tokenizers, and one that adds up to the same score in many ways."""
    proto = web.read_model(tokenizer("unigram"))
    dot = next(piece.score for piece in proto.pieces if piece.piece == ".")
    for n in (2, 3, 5):
        proto.pieces[-n].piece, proto.pieces[-n].score = n * ".", n * dot
    made = {name: tokenizer(*kind) for name, kind in KINDS.items()}
    return made | {TIES: proto.SerializeToString()}


@pytest.fixture(scope="module")
def ids_there(browser, tmp_path_factory):
    """`ids` of a tokenizer of `models`, computed in the page."""
    folder = tmp_path_factory.mktemp("tokenizers")
    for name in ("index.html", "tokenizer.js"):
        shutil.copy(PAGE / name, folder)
    for name, model in models().items():
        (folder / f"{name}.model").write_bytes(model)
    with served(folder) as address:
        browser.open(address)
        browser.run(
            f"""(async () => {{
              const {{ Tokenizer }} = await import("/tokenizer.js");
              window.kinds = {{}};
              for (const name of {json.dumps(list(models()))}) {{
                const answer = await fetch(`/${{name}}.model`);
                kinds[name] = new Tokenizer(new Uint8Array(await answer.arrayBuffer()));
              }}
            }})()"""
        )

        def run(name, texts, limit=100_000):
            wanted = json.dumps(json.dumps(texts))  # escapes go through the pipe, NUL would not
            return browser.run(f"JSON.parse({wanted}).map(t => kinds['{name}'].encode(t, {limit}))")

        yield run


@pytest.mark.parametrize("name", [*KINDS, TIES])
def test_ids_are_those_of_sentencepiece(ids_there, name):
    texts = TEXT + [text.swapcase() for text in TEXT] + HOSTILE
    for n in range(2, 40):  # these can be cut in several ways
        texts += [text + "." * n for text in TEXT[:8]] + ["-" * n, "ha" * n]
    for text, a, b in zip(texts, ids_there(name, texts), ids(models()[name], texts), strict=True):
        assert a == b, ascii(text[:80])


@pytest.mark.parametrize("name", [*KINDS, TIES])
def test_ids_are_cut_at_the_same_token(ids_there, name):
    texts = [*TEXT, "☃ ☃ ☃ ☃ ☃ ☃", "☃" * 9]
    assert ids_there(name, texts, 5) == ids(models()[name], texts, 5)


@pytest.mark.parametrize("name", [name for name in KINDS if "case" not in name] + [TIES])
@given(
    text=st.one_of([st.text(alphabet, max_size=12) for alphabet in [*ALPHABETS, st.characters()]])
)
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_same_ids(ids_there, name, text):
    assert ids_there(name, [text]) == ids(models()[name], [text])


# The vectors


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        ("int8", {}),
        ("int8", {"embedding_width": 8, "layers": 3, "heads": 2}),
        ("float16", {"pooling": "max", "positions": False}),
        ("int4", {"layers": 1, "positions": False, "pooling": "weighted"}),
        ("int8", {"layers": 1, "pooling": "attention", "embedding_norm": False}),
        ("float32", {"pooling": "sum", "activation": "relu"}),
    ],
    ids=str,
)
def test_vectors_are_those_of_python(browser, archive, tmp_path, dtype, changes):
    small = quantize(bundle(tokenizer("unigram"), **changes), dtype)
    write_format(small, tmp_path, "web", runtime=archive)
    check_vectors(browser, small, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "changes"),
    [
        ("float32", {}),
        ("float16", {"pooling": "max", "positions": False}),
        ("bfloat16", {"pooling": "sum"}),
        ("int8", {"pooling": "weighted", "positions": False, "embedding_width": 8}),
        ("int4", {"pooling": "weighted", "positions": False, "embedding_width": 8}),
        ("int4", {"pooling": "attention", "embedding_norm": False}),
        ("int8", {"pooling": "cls", "norm_eps": 0.1}),
        ("int8", {"dense": True, "dimensions": 12}),
    ],
    ids=str,
)
def test_vectors_without_layers_are_those_of_python(browser, tmp_path, dtype, changes):
    changes = dict(changes)
    dimensions = changes.pop("dimensions", None)
    made = bundle(tokenizer("unigram"), layers=0, **changes)
    if dimensions:
        made = reduce_dimensions(made, TEXT, dimensions)
    small = quantize(made, dtype)
    write_format(small, tmp_path, "web")
    assert not list(tmp_path.rglob("*.wasm"))
    check_vectors(browser, small, tmp_path)


def check_vectors(browser, small, folder):
    texts = [*TEXT, *HOSTILE, *ESCAPED, "&nsupseteqq; &lbrkeksl; &bnequiv;", "&#1;a&#65534;"]
    with served(folder) as address:
        browser.open(address)
        vectors = encode_there(browser, texts)
    expected = Encoder(small).encode(texts)
    assert not expected[texts.index("")].any()
    np.testing.assert_allclose(vectors, expected, atol=1e-4)


def test_entities_stay_where_they_stayed_in_training(browser, archive, tmp_path):
    small = dataclasses.replace(bundle(), unescape=False)
    write_format(small, tmp_path, "web", runtime=archive)
    with served(tmp_path) as address:
        browser.open(address)
        vectors = encode_there(browser, ESCAPED)
    np.testing.assert_allclose(vectors, Encoder(small).encode(ESCAPED), atol=1e-4)


# The page


def test_the_page_begins_with_an_answer(browser, site, encoder):
    folder, address = site
    browser.open(address)
    browser.until(READY)
    browser.until("document.querySelectorAll('#found li').length === 10")
    config = json.loads((folder / "config.json").read_text())
    texts = [example["text"] for example in config["sentences"]]
    scores = encoder.similarity(encoder.encode(config["query"]), encoder.encode(texts))[0]
    shown = found(browser)
    np.testing.assert_allclose([row[0] for row in shown], np.sort(scores)[::-1][:10], atol=0.006)
    for score, language, text in shown:
        row = texts.index(text)
        assert language == config["sentences"][row]["language"]
        assert score == pytest.approx(scores[row], abs=0.006)
    said = browser.run("document.querySelector('#summary').textContent")
    assert said == f"The best of {len(texts)} sentences has {scores.max():.2f}."


def test_asked_in_one_language_found_in_the_other(browser, site):
    _, address = site
    browser.open(address)
    browser.until(READY)
    lines = ["le chat est dans la gare", "fr\tle chien est dans le maison", "", "où est le chien"]
    browser.paste("#list", "\n".join(lines))
    browser.until("document.querySelector('#state').textContent === '3 sentences ready.'")
    for query, text in {
        "the dog is in the house": "le chien est dans le maison",
        "Where is the dog": "où est le chien",
    }.items():
        browser.paste("#query", query)
        browser.press("Enter", 13)
        browser.until(f"document.querySelector('.sentence').textContent === {json.dumps(text)}")
        (score, language, _), (second, _, _), _ = found(browser)
        assert score == 1 > second
        assert language == ("fr" if "maison" in text else "")
    assert browser.run("document.querySelectorAll('#found [lang=fr][dir=auto]').length") == 1


def test_nothing_leaves_the_origin(browser, site):
    _, address = site
    visits = []

    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            visits.append(self.path)
            self.send_response(200)
            self.send_header("Access-Control-Allow-Origin", "*")
            self.end_headers()

        do_POST = do_GET

        def log_message(self, *args):
            pass

    browser.open(address)
    browser.until(READY)
    browser.paste("#list", "secret one\nsecret two")
    browser.paste("#query", "secret")
    browser.press("Enter", 13)
    browser.until("document.querySelectorAll('#found li').length === 2")
    asked = list(browser.requests)
    assert {f"{address}{name}" for name in ("model.onnx", "runtime/ort.wasm")} <= set(asked)
    assert [url for url in asked if not url.startswith(address)] == []
    assert not any("secret" in url for url in asked)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        other = f"127.0.0.1:{server.server_address[1]}/"
        refused = browser.run(
            f"""(async () => {{
              navigator.sendBeacon("http://{other}beacon", "x");
              new Image().src = "http://{other}image";
              document.head.append(Object.assign(document.createElement("link"),
                {{ rel: "stylesheet", href: "http://{other}style" }}));
              try {{ new WebSocket("ws://{other}socket"); }} catch {{}}
              const tries = await Promise.allSettled([
                fetch("http://{other}fetch", {{ mode: "no-cors" }}),
                fetch("http://{other}post", {{ method: "POST", body: "x" }}),
                import("http://{other}script"),
                new Promise((ok, no) => {{
                  const source = new EventSource("http://{other}events");
                  [source.onopen, source.onerror] = [ok, no];
                }}),
                fetch("config.json"),
              ]);
              await new Promise((wait) => setTimeout(wait, 300));
              return tries.map((one) => one.status);
            }})()"""
        )
        server.shutdown()
    assert refused == ["rejected"] * 4 + ["fulfilled"]
    assert visits == []


def test_no_code_comes_from_text(browser, site):
    _, address = site
    browser.open(address)
    browser.until(READY)
    line = "<img src=x onerror=\"document.title='taken'\"><b>the cat</b>"
    browser.paste("#list", f"{line}\nx\tthe dog\n__proto__\nconstructor")
    browser.until("document.querySelector('#state').textContent.startsWith('4 ')")
    browser.until("document.querySelectorAll('#found li').length === 4")
    assert line in [row[2] for row in found(browser)]
    assert browser.run("document.querySelectorAll('#found img, #found b').length") == 0
    assert browser.run("document.title") == "Search across languages"
    with pytest.raises(RuntimeError, match="unsafe-eval"):
        browser.run("new Function('return 1')()")


def test_thousands_of_sentences_are_read_while_the_page_answers(browser, site, encoder):
    _, address = site
    browser.open(address)
    browser.until(READY)
    rng = np.random.default_rng(0)
    many = list(dict.fromkeys(" ".join(rng.choice(WORDS, 9)) for _ in range(3000)))
    browser.run(
        "window.halfway = false, setInterval(() => halfway ||="
        "!progress.hidden && progress.value > 0 && progress.value < 1, 1)"
    )
    browser.paste("#list", "\n".join(many))
    browser.paste("#query", "where is the cat")
    browser.until(
        f"document.querySelector('#state').textContent === '{len(many):,} sentences ready.'"
    )
    browser.until(f"document.querySelector('#summary').textContent.includes('{len(many):,}')")
    assert browser.run("halfway")  # a timer ran while sentences were read: the page was not frozen
    scores = encoder.similarity(encoder.encode("where is the cat"), encoder.encode(many))[0]
    shown = [row[0] for row in found(browser)]
    np.testing.assert_allclose(shown, np.sort(scores)[::-1][:10], atol=0.006)


def test_more_results_and_an_emptied_page(browser, site):
    _, address = site
    browser.open(address)
    browser.until(READY)
    browser.paste("#list", "\n".join(TEXT[:25] + TEXT[:25] + ["the " * 100]))
    browser.until(
        "document.querySelector('#state').textContent === "
        "'26 sentences ready. Of 1 long one only the beginning was read.'"
    )
    browser.until("document.querySelector('#summary').textContent.includes('26')")
    best = found(browser)
    browser.run("document.querySelector('#more').focus()")
    browser.press("Enter", 13)
    assert found(browser)[:10] == best
    assert len(found(browser)) == 20
    assert (
        browser.run(
            "[...document.activeElement.parentNode.children].indexOf(document.activeElement)"
        )
        == 10
    )
    browser.run("document.querySelector('#more').click()")
    assert len(found(browser)) == 26
    assert browser.run("document.querySelector('#more').hidden")
    browser.paste("#query", " ")
    browser.press("Enter", 13)
    browser.until("document.querySelector('#summary').textContent.startsWith('Type')")
    assert found(browser) == []
    browser.paste("#list", " \n\n")
    browser.until("document.querySelector('#state').textContent === 'The list is empty.'")
    browser.paste("#query", "the cat")
    browser.press("Enter", 13)
    browser.until("document.querySelector('#summary').textContent.startsWith('There are no')")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_readable_in_every_scheme_and_width(browser, site, width, dark):
    _, address = site
    browser.open(address, width=width, dark=dark)
    browser.until("document.querySelectorAll('#found li').length === 10")
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run("[...document.querySelectorAll('textarea, input')].every(e => e.labels[0])")
    contrasts = browser.run(
        """(() => {
          const light = (color) => {
            const linear = (x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
            const [r, g, b] = color.match(/[\\d.]+/g).map((x) => linear(x / 255));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const back = (e) => {
            const color = getComputedStyle(e).backgroundColor;
            return color === "rgba(0, 0, 0, 0)" ? back(e.parentElement) : color;
          };
          const parts = "h1, p, label, textarea, input, button, li span";
          return [...document.querySelectorAll(parts)].map((e) => {
            const [a, b] = [light(getComputedStyle(e).color), light(back(e))];
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
          });
        })()"""
    )
    assert min(contrasts) >= 4.5  # WCAG 2, AA
    is_dark = browser.run("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert is_dark == dark


def test_a_page_opened_as_a_file_says_what_to_type(browser, site):
    folder, _ = site
    browser.open((folder / "index.html").as_uri())
    browser.until(
        "getComputedStyle(unstarted).visibility === 'visible' && unstarted.offsetHeight > 0"
    )
    assert "http.server" in browser.run("unstarted.innerText")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model.onnx", None, "model.onnx cannot be fetched: the server answers 404"),
        ("tokenizer.model", b"short", "tokenizer.model has 5 bytes instead of"),
        ("runtime/ort.js", None, "runtime/ort.js cannot be loaded"),
        ("config.json", None, "config.json cannot be fetched: the server answers 404"),
        ("model.onnx", ..., "The model does not run. "),
    ],
    ids=str,
)
def test_a_folder_that_is_not_whole_is_explained(browser, site, tmp_path, name, content, message):
    folder = tmp_path / "site"
    shutil.copytree(site[0], folder)
    if content is None:
        (folder / name).unlink()
    else:
        size = (folder / name).stat().st_size
        (folder / name).write_bytes(b"\xff" * size if content is ... else content)
    with served(folder) as address:
        browser.open(address)
        browser.until("!problem.hidden")
        assert message in browser.run("problem.innerText")
        assert browser.run("getComputedStyle(unstarted).display") == "none"


def test_a_page_without_layers_searches_with_its_own_files_alone(browser, tmp_path):
    (tmp_path / "site").mkdir()
    write_format(translator(0), tmp_path / "site", "web")
    files = {file.name for file in (tmp_path / "site").iterdir()}
    with served(tmp_path / "site") as address:
        browser.open(address)
        browser.until(READY)
        browser.paste("#list", "le chat\nla maison\noù est la gare")
        browser.paste("#query", "the cat")
        browser.press("Enter", 13)
        browser.until("document.querySelectorAll('#found li').length === 3")
        assert found(browser)[0][2] == "le chat"
        asked = {url.removeprefix(address) for url in browser.requests}
        assert "model.safetensors" in asked
        assert asked <= {*files, ""}
    model = tmp_path / "site" / "model.safetensors"
    model.write_bytes(b"\xff" * model.stat().st_size)
    with served(tmp_path / "site") as address:
        browser.open(address)
        browser.until("!problem.hidden")
        assert "The model does not run. " in browser.run("problem.innerText")


def test_the_list_is_there_at_the_next_visit(browser, site):
    _, address = site
    browser.open(address)
    browser.until(READY)
    browser.paste("#list", "la maison\nle chat")
    browser.paste("#query", "the cat")
    browser.press("Enter", 13)
    browser.until("document.querySelectorAll('#found li').length === 2")
    browser.open("about:blank", forget=False)
    browser.open(address, forget=False)
    browser.until("document.querySelectorAll('#found li').length === 2")
    assert browser.run("document.querySelector('#list').value") == "la maison\nle chat"
    assert found(browser)[0][2] == "le chat"


def test_languages_have_names_in_the_language_of_the_visitor(browser, site):
    _, address = site
    script = "Object.defineProperty(navigator, 'languages', {get: () => ['de']})"
    added = browser.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    try:
        browser.open(address)
        browser.until(READY)
    finally:
        browser.call("Page.removeScriptToEvaluateOnNewDocument", **added)
    assert browser.run("document.querySelector('#languages').textContent") == (
        "Englisch, Französisch"
    )
    assert browser.run("document.querySelector('summary').textContent") == "2 languages"


@pytest.mark.parametrize(
    ("content", "state"),
    [("le chat\noù est la gare\n".encode(), "2 sentences ready."), (b"caf\xe9", "is not text in")],
    ids=["UTF-8", "Latin-1"],
)
def test_a_file_gives_the_list(browser, site, tmp_path, content, state):
    _, address = site
    (tmp_path / "texts.txt").write_bytes(content)
    browser.open(address)
    browser.until(READY)
    node = browser.call("Runtime.evaluate", expression="document.querySelector('#file')")
    files = [str(tmp_path / "texts.txt")]
    browser.call("DOM.setFileInputFiles", files=files, objectId=node["result"]["objectId"])
    browser.until(f"document.querySelector('#state').textContent.includes({json.dumps(state)})")


@pytest.mark.parametrize(("width", "is_above"), [(390, True), (1280, False)])
def test_on_a_phone_the_answers_stand_above_the_list(browser, site, width, is_above):
    _, address = site
    browser.open(address, width=width)
    browser.until(READY)
    below = "document.querySelector('#found').getBoundingClientRect().bottom"
    top = browser.run("document.querySelector('#list').getBoundingClientRect().top")
    assert (browser.run(below) <= top) == is_above


def test_after_the_first_visit_it_works_without_a_network(browser, tmp_path):
    (tmp_path / "site").mkdir()
    write_format(translator(0), tmp_path / "site", "web")
    with served(tmp_path / "site") as address:
        browser.open(address)
        browser.until(READY)
        browser.run("navigator.serviceWorker.ready.then(() => true)")
        browser.until("!!navigator.serviceWorker.controller")
    browser.open(address, forget=False)  # nobody serves it any more
    browser.until(READY)
    browser.paste("#list", "la maison\nle chat")
    browser.paste("#query", "the cat")
    browser.press("Enter", 13)
    browser.until("document.querySelectorAll('#found li').length === 2")
    assert found(browser)[0][2] == "le chat"


# The command


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A small archive in place of onnxruntime-web, on a server that counts its visitors."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as members:
        for name in (*runtime.RUNTIME_FILES, "package/dist/other.wasm"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            members.addfile(info, io.BytesIO(name.encode()))
    folder = tmp_path / "registry"
    folder.mkdir()
    archive = folder / runtime.ARCHIVE
    archive.write_bytes(content.getvalue())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha512(content.getvalue()).digest()
    monkeypatch.setattr(runtime, "SHA512", base64.b64encode(digest).decode())
    with served(folder) as address:
        monkeypatch.setattr(runtime, "URL", f"{address}{runtime.ARCHIVE}")
        yield archive


def test_the_runtime_is_fetched_once_and_checked(fake, tmp_path, capsys):
    kept = runtime.find_runtime()
    assert kept == tmp_path / "cache" / "lightxling" / runtime.ARCHIVE
    assert runtime.URL in capsys.readouterr().err
    assert runtime.find_runtime() == kept
    assert capsys.readouterr().err == ""
    kept.write_bytes(b"half")
    assert runtime.find_runtime().read_bytes() == fake.read_bytes()
    runtime.unpack(kept, tmp_path)
    assert (tmp_path / "ort.wasm").read_text() == "package/dist/ort-wasm-simd-threaded.wasm"
    assert not (tmp_path / "other.wasm").exists()


def test_a_runtime_that_cannot_be_had_is_explained(fake, tmp_path, monkeypatch):
    given = tmp_path / "given.tgz"
    shutil.copy(fake, given)
    assert runtime.find_runtime(given) == given
    for wrong in (tmp_path / "nowhere.tgz", tmp_path, PAGE / "icon.svg"):
        with pytest.raises(UserError, match=r"is not the archive of .*npm pack onnxruntime-web@"):
            runtime.find_runtime(wrong)
    fake.write_bytes(b"something else")
    with pytest.raises(UserError, match="what came is not onnxruntime-web"):
        runtime.find_runtime()
    fake.unlink()
    with pytest.raises(UserError, match=r"cannot fetch .*Error 404.* --runtime onnxruntime-web-"):
        runtime.find_runtime()
    monkeypatch.setattr(runtime, "URL", "http://127.0.0.1:9/x")
    with pytest.raises(UserError, match=r"cannot fetch .*refused"):
        runtime.find_runtime()
    assert not list((tmp_path / "cache" / "lightxling").iterdir())


def test_export_writes_the_folder_and_says_its_sizes(fake, tmp_path):
    pytest.importorskip("onnx")
    model = tmp_path / "model"
    model.mkdir()
    write_format(bundle(), model, "safetensors")
    report = export(ExportSettings(model, format="web", runtime=fake))
    assert report.folder == tmp_path / "model-web-int4"
    files = {
        file.relative_to(report.folder).as_posix(): file.stat().st_size
        for file in report.folder.rglob("*")
        if file.is_file()
    }
    assert sum(files.values()) == report.after
    config = json.loads((report.folder / "config.json").read_text())
    del files["config.json"]
    assert config["files"] == files
    assert (report.folder / config["runtime"]["binary"]).read_text().endswith("threaded.wasm")
    assert "Copyright (c) Microsoft" in (report.folder / "runtime" / "LICENSE").read_text()
    assert "python3 -m http.server --directory" in str(report)
    assert f"onnxruntime-web {runtime.VERSION} 0.0 MB" in str(report)
    export(ExportSettings(model, report.folder, format="web", runtime=fake, overwrite=True))


def test_what_does_not_go_is_said_before_anything_is_written(fake, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    write_format(bundle(), model, "safetensors")
    with pytest.raises(UserError, match="--runtime belongs to --format web, not to onnx"):
        export(ExportSettings(model, tmp_path / "out", format="onnx", runtime=fake))
    pytest.importorskip("onnx")
    with pytest.raises(UserError, match="is not the archive of"):
        export(ExportSettings(model, tmp_path / "out", format="web", runtime=tmp_path / "no.tgz"))
    proto = web.read_model(tokenizer())
    proto.pieces[10].type = 4
    special = bundle(proto.SerializeToString())
    with pytest.raises(UserError, match="user-defined"):
        web.check_web(special)
    with pytest.raises(UserError, match="--runtime is not needed: this encoder has no layers"):
        web.check_web(bundle(layers=0), fake)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("languages", "first"), [((), "en"), (("it", "xx", "fr"), "fr"), (("de",), None)]
)
def test_examples_are_in_the_languages_of_the_encoder(languages, first):
    query, sentences = web.examples(languages)
    if first is None:
        assert (query, sentences) == ("", [])
        return
    rows = web.everyday.read_sentences()
    column = web.everyday.LANGUAGES.index
    codes = {example["language"] for example in sentences}
    assert codes == set(languages or web.everyday.LANGUAGES) & set(web.everyday.LANGUAGES)
    (asked,) = [row.texts for row in rows if row.texts[column(first)] == query]
    answers = {asked[column(code)] for code in codes - {first}}
    assert answers <= {example["text"] for example in sentences}
    assert query not in {example["text"] for example in sentences}
