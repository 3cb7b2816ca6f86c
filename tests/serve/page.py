#!/usr/bin/env python3
"""The server's page in a real browser.

    tests/serve/page.py URL [--screenshots FOLDER] [--key KEY] [--only WORDS]

drives Chromium (Debian's package `chromium`, or what $CHROMIUM names) with Playwright (PyPI's package `playwright`) against a
running `llama-svf serve`. Prints a line for each check; exits with 1 where one failed. What a server cannot be made to do at will
(to be slow, busy, cut off, to have a thousand experts or to call a tool) the browser plays instead.
"""

import argparse
import json
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Page, expect, sync_playwright

QUESTION = "Leo has 5 boxes of 4 hats. Leo wins 7. How many hats does Leo have?"
CHAT = "**/v1/chat/completions"
EXPERTS = "**/v1/experts"

# Gives each answer out in pieces of a few bytes, as a slow network would. Pieces cut characters and lines anywhere.
SLOW = """
const fetched = window.fetch;
window.fetch = async (...given) => {
  const response = await fetched(...given);
  if (!window.slowness || !response.headers.get("content-type")?.startsWith("text/event-stream")) return response;
  const signal = given[1]?.signal;
  const pieces = new TransformStream({
    async transform(chunk, controller) {
      for (let at = 0; at < chunk.length; at += 97) {
        await new Promise(resolve => setTimeout(resolve, window.slowness));
        if (signal?.aborted) { controller.error(new DOMException("stopped", "AbortError")); return; }
        controller.enqueue(chunk.slice(at, at + 97));
      }
    },
  });
  return new Response(response.body.pipeThrough(pieces), response);
};
"""

# Visible text whose contrast with what is behind it is below WCAG's 4.5.
CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = colour => {
    const [r, g, b] = rgba(colour).map(c => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (rgba(colour)[3] === 255) return colour;
    }
    return getComputedStyle(document.body).backgroundColor;
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    if (element.closest(":disabled, .hidden, .skip, noscript, script, style, .segment:has(:disabled)")) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${walker.currentNode.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""

# Buttons and fields without a name.
NAMELESS = """() => [...document.querySelectorAll("button, input, textarea, select, summary, dialog, [role=tabpanel]")]
  .filter(e => !e.hidden && !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim() || e.getAttribute("aria-labelledby")))
  .map(e => e.outerHTML.slice(0, 80))"""


class Skipped(Exception):
    """This server has not what the check is of."""


def chunk(delta, finish=None, **more):
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def sse(*chunks, done=True):
    """Chunks as the body of a stream."""
    return "".join(f"data: {json.dumps(c)}\n\n" for c in chunks) + ("data: [DONE]\n\n" if done else "")


def played(page: Page, body, status=200, times=None):
    """Answers chat completions with `body`; gives the list in which their requests are put."""
    requests = []

    def answer(route):
        requests.append(route.request.post_data_json)
        kind = "text/event-stream" if status == 200 else "application/json"
        route.fulfill(status=status, content_type=kind, body=body)

    page.route(CHAT, answer, **({"times": times} if times else {}))
    return requests


def error_body(status, message, kind, **more):
    return json.dumps({"error": {"code": status, "message": message, "type": kind, **more}})


def watched(page: Page):
    """The chat requests that a page sends from now on."""
    sent = []
    page.on("request", lambda request: sent.append(request.post_data_json) if "chat/completions" in request.url else None)
    return sent


def ready(page: Page):
    page.wait_for_selector("#who .chip", timeout=20000)


def ask(page: Page, text, wait=True):
    page.fill("#question", text)
    page.press("#question", "Enter")
    if wait:
        finished(page)


def finished(page: Page):
    page.wait_for_selector("#send:visible", timeout=60000)


def answers(page: Page):
    return page.locator(".answer")


def text_of(page: Page):
    """The last answer's text."""
    return page.locator(".answer .text").last.inner_text()


def press(page: Page, words):
    """Presses the button of the last answer that has this name."""
    answers(page).last.get_by_role("button", name=words).click()


def choose(page: Page, mode):
    if page.locator("#chooser").is_hidden():
        page.click("#who")
    page.locator(f"label:has(#mode-{mode})").click()


def experts(page: Page):
    return page.evaluate("() => fetch('v1/experts', window.key ? { headers: { Authorization: `Bearer ${key}` } } : {}).then(r => r.json())")


def some_experts(page: Page, n):
    data = experts(page)["data"]
    if len(data) < n:
        raise Skipped(f"the server has fewer than {n} experts")
    return data[:n]


def unfold(page: Page, name):
    """Shows what the panel says of an expert."""
    page.locator("#pane-experts .expert summary").filter(has=page.get_by_text(name, exact=True)).click()


def slide(page: Page, selector, value):
    page.locator(selector).evaluate("(e, v) => { e.value = v; e.dispatchEvent(new Event('input', { bubbles: true })); }", value)


def many(page: Page, n):
    data = [{"id": i, "name": f"expert-{i}", "description": f"subject {i}", "path": None, "n_values": 1, "training": None} for i in range(n)]
    body = {"object": "list", "data": data, "strategies": ["prompt", "classifier"], "default": {"strategy": "prompt", "mixture": {}}, "threshold": 0, "base": "m"}
    page.route(EXPERTS, lambda route: route.fulfill(json=body))
    page.reload()
    ready(page)


# The checks. Each has a page of its own, in a browser that keeps nothing yet.


def check_an_answer_is_streamed(page: Page):
    page.evaluate("window.slowness = 15")
    ask(page, QUESTION, wait=False)
    lengths = set()
    while page.locator("#stop").is_visible():
        lengths.add(len(page.locator(".answer .text").last.inner_text()))
        time.sleep(0.02)
    assert len(lengths) > 2, f"lengths seen: {lengths}"
    assert text_of(page), "no text"
    costs = page.locator(".answer .costs").inner_text()
    assert "Prompt:" in costs and "tokens/s" in costs, costs
    assert "�" not in text_of(page)
    assert page.evaluate("document.activeElement.id") == "question", "the field lost the focus"


def check_the_choice_is_shown(page: Page):
    if not experts(page)["strategies"]:
        raise Skipped("the server has no strategy")
    choose(page, "auto")
    sent = watched(page)
    ask(page, QUESTION)
    assert sent[0]["svf"]["adapt"] in ("prompt", "classifier"), sent[0]
    strip = page.locator(".answer details.strip")
    assert strip.get_attribute("open") is not None, "the newest answer's probabilities are folded"
    assert re.search(r"chosen by (a prompt|the classifier), \d+\.\d % sure", strip.inner_text()), strip.inner_text()
    values = [float(v.rstrip(" %")) for v in strip.locator(".value").all_inner_texts()]
    assert values == sorted(values, reverse=True) and abs(sum(values) - 100) < 1, values
    assert strip.locator(".bar.likeliest").count() == 1
    assert "Pass 1:" in page.locator(".answer .costs").inner_text()
    ask(page, "And with 9 boxes?")
    assert page.locator(".answer details.strip").first.get_attribute("open") is None, "an older answer's probabilities stay open"


def check_a_fallback_is_told(page: Page):
    svf = {"mixture": {}, "strategy": "prompt", "label": "code", "confidence": 0.41, "probabilities": {"code": 0.41, "math": 0.39, "other": 0.2},
           "fallback": True, "pass1_tokens": 9, "pass1_ms": 1.5}
    played(page, sse(chunk({"role": "assistant"}, svf=svf), chunk({"content": "x"}), chunk({}, "stop", svf=svf)))
    ask(page, "hm")
    note = page.locator(".fallback").inner_text()
    assert "code" in note and "base answered" in note, note


def check_the_threshold_is_sent(page: Page):
    if not experts(page)["strategies"]:
        raise Skipped("the server has no strategy")
    choose(page, "auto")
    slide(page, "#threshold", 0.55)
    sent = watched(page)
    ask(page, QUESTION)
    assert sent[0]["svf"]["threshold"] == 0.55, sent[0]


def check_base_and_one_expert(page: Page):
    expert = some_experts(page, 1)[0]
    sent = watched(page)
    choose(page, "base")
    ask(page, QUESTION)
    choose(page, "one")
    page.click(f"#pick-{expert['id']}")
    page.keyboard.press("Escape")
    assert page.locator("#chooser").is_hidden() and page.evaluate("document.activeElement.id") == "who"
    ask(page, QUESTION)
    assert [s["svf"] for s in sent] == [{"mix": {}}, {"mix": {expert["name"]: 1}, "strength": 1}], sent
    strips = page.locator(".answer .strip").all_inner_texts()
    assert "base" in strips[0] and expert["name"] in strips[1] and "as you chose" in strips[1], strips
    page.reload()
    ready(page)
    assert expert["name"] in page.locator("#who").inner_text(), "the choice is forgotten"


def check_a_mixture_by_sliders(page: Page):
    a, b = some_experts(page, 2)
    choose(page, "mix")
    for expert in (a, b):
        page.click(f"#pick-{expert['id']}")
    slide(page, f"#weight-{a['id']}", 0.7)
    slide(page, f"#weight-{b['id']}", -0.3)
    slide(page, "#strength", 0.5)
    sent = watched(page)
    ask(page, QUESTION)
    assert sent[0]["svf"] == {"mix": {a["name"]: 0.7, b["name"]: -0.3}, "strength": 0.5}, sent[0]
    strip = page.locator(".answer .strip").inner_text()
    assert a["name"] in strip and b["name"] in strip, strip
    page.click("#who")
    page.get_by_role("button", name=f"Leave {a['name']} out").click()
    ask(page, QUESTION)
    assert sent[1]["svf"]["mix"] == {b["name"]: -0.3}, sent[1]


def check_stop_keeps_what_came(page: Page):
    for stop in (lambda: page.click("#stop"), lambda: page.keyboard.press("Escape")):
        page.evaluate("window.slowness = 40")
        ask(page, QUESTION, wait=False)
        page.locator(".answer .text").last.get_by_text(re.compile(".")).first.wait_for()
        stop()
        finished(page)
        assert text_of(page), "what came is lost"
        assert "You stopped this answer." in answers(page).last.inner_text()
        page.evaluate("window.slowness = 0")


def check_a_stopped_answer_goes_on(page: Page):
    page.evaluate("window.slowness = 40")
    ask(page, QUESTION, wait=False)
    page.locator(".answer .text").last.get_by_text(re.compile(".")).first.wait_for()
    page.click("#stop")
    finished(page)
    before = text_of(page)
    requests = played(page, sse(chunk({"content": " and more"}), chunk({}, "stop")))
    press(page, "Go on with the answer")
    finished(page)
    assert requests[0]["messages"][-1]["role"] == "assistant"
    assert text_of(page) == before + " and more", (before, text_of(page))


def check_nothing_is_lost_on_reload(page: Page):
    ask(page, QUESTION)
    first, strip = text_of(page), page.locator(".answer .strip").inner_text()
    page.evaluate("window.slowness = 40")
    ask(page, QUESTION, wait=False)
    expect(page.locator(".answer .text").last).to_have_text(re.compile("."), timeout=20000)
    page.fill("#question", "a draft")
    part = text_of(page)
    page.reload()
    ready(page)
    assert page.locator(".answer .text").first.inner_text() == first
    assert page.locator(".answer .strip").first.inner_text().split("\n")[0] == strip.split("\n")[0]
    # White space at the end of what came is not seen any more.
    assert part and text_of(page).startswith(part.rstrip()), (part, text_of(page))
    note = answers(page).last.inner_text()
    assert "page was closed" in note, note
    assert page.input_value("#question") == "a draft", "the draft is lost"
    press(page, "Answer again")
    finished(page)
    assert "2/2" in answers(page).last.inner_text()


def check_an_answer_again_is_a_version(page: Page):
    sent = watched(page)
    ask(page, QUESTION)
    first = text_of(page)
    choose(page, "base")
    page.keyboard.press("Escape")
    press(page, "Answer again")
    finished(page)
    assert answers(page).count() == 1 and "2/2" in answers(page).inner_text()
    assert [m["role"] for m in sent[1]["messages"]] == ["user"], sent[1]
    press(page, "The version before")
    assert text_of(page) == first and "1/2" in answers(page).inner_text()
    page.reload()
    ready(page)
    assert text_of(page) == first and "1/2" in answers(page).inner_text()


def check_an_edited_question_is_a_branch(page: Page):
    sent = watched(page)
    ask(page, QUESTION)
    ask(page, "And with 6 boxes?")
    question = page.locator(".question").first
    question.hover()
    question.get_by_role("button", name="Edit the question").click()
    field = question.get_by_role("textbox")
    assert field.input_value() == QUESTION
    field.fill("What is 2 + 2?")
    field.press("Enter")
    finished(page)
    assert page.locator(".question").count() == 1 and "What is 2 + 2?" in page.locator(".question").inner_text()
    assert [m["content"] for m in sent[2]["messages"]] == ["What is 2 + 2?"], sent[2]
    page.locator(".question").hover()
    page.locator(".question").get_by_role("button", name="The version before").click()
    assert page.locator(".question .text").all_inner_texts() == [QUESTION, "And with 6 boxes?"], "the other branch is lost"


def check_a_deleted_message_comes_back(page: Page):
    ask(page, QUESTION)
    press(page, "Delete the answer")
    assert answers(page).count() == 0
    page.get_by_role("button", name="Undo").click()
    assert answers(page).count() == 1


def check_conversations(page: Page):
    ask(page, QUESTION)
    page.click("#new")
    ask(page, "Second one")
    rows = page.locator("#conversations li")
    assert rows.count() == 2
    row = rows.filter(has_text="Second one")
    row.get_by_role("button", name="Rename").click()
    page.keyboard.type("Another name")
    page.keyboard.press("Enter")
    assert page.locator("#title").inner_text() == "Another name"
    page.fill("#find", "another")
    assert rows.count() == 1
    page.fill("#find", "")
    rows.filter(has_text="Leo").locator(".open").click()
    assert page.locator(".question .text").inner_text() == QUESTION
    rows.filter(has_text="Leo").get_by_role("button", name="Delete").click()
    assert rows.count() == 1
    page.get_by_role("button", name="Undo").click()
    assert rows.count() == 2 and page.locator(".question .text").inner_text() == QUESTION


def check_export_and_import(page: Page):
    ask(page, QUESTION)
    with page.expect_download() as download:
        page.click("#export")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "conversations.json"
        download.value.save_as(file)
        exported = json.loads(file.read_text())
        page.evaluate("localStorage.clear()")
        page.reload()
        ready(page)
        assert page.locator("#conversations li").count() == 0
        page.set_input_files("#import-file", file)
        page.locator("#conversations .open").click()
        assert page.locator(".question .text").inner_text() == QUESTION
        page.set_input_files("#import-file", file)
        expect(page.locator(".notice").last).to_contain_text("0 conversations")
        # A damaged file changes nothing, and what is odd in a good one is left out.
        broken = Path(folder) / "broken.json"
        broken.write_text('{"format": "something"}')
        page.set_input_files("#import-file", broken)
        expect(page.locator(".notice").last).to_contain_text("no file of conversations")
        odd = exported["conversations"][0] | {"id": "odd", "updated": 1}
        odd["nodes"] = [None, 7, {"id": "x", "parent": "x", "role": "user", "content": "circle"},
                        {"id": "y", "parent": None, "role": "user", "content": "kept", "svf": 3, "toolCalls": "no"},
                        {"id": "z", "parent": "y", "role": "assistant", "content": "also", "svf": {"mixture": {"a": "b"}, "probabilities": {"a": None}}, "timings": []}]
        broken.write_text(json.dumps(exported | {"conversations": [odd, 5, {}]}))
        page.set_input_files("#import-file", broken)
        page.locator("#conversations .open", has_text="kept").click()
        assert page.locator(".question .text").all_inner_texts() == ["kept"]
        assert text_of(page) == "also"


def check_markdown_is_safe(page: Page):
    written = "\n".join([
        "# Title", "", "**bold** *italic* `code` ~~gone~~ [good](https://example.org/a_(b)) [bad](javascript:alert(1)) <b>tag</b>",
        '<img src=x onerror="alert(1)"> <script>alert(2)</script> ![pic](https://example.org/x.png) [data](data:text/html,x)', "",
        "1. one", "2. two", "   - nested", "", "| a | b |", "|:--|--:|", "| 1 | x\\|y |", "", "> quoted", "", "```html", "<i>raw</i>", "```", "",
        "snake_case_name 2 * 3 * 4 https://example.org/page."])
    pieces = [chunk({"content": written[i : i + 3]}) for i in range(0, len(written), 3)]
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    played(page, sse(chunk({"role": "assistant"}), *pieces, chunk({}, "stop")))
    ask(page, "markdown")
    text = page.locator(".answer .text")
    page.wait_for_timeout(200)
    assert not dialogs, dialogs
    assert text.locator("img, script, b").count() == 0
    found = {tag: text.locator(tag).all_inner_texts() for tag in ("h3", "strong", "em", "del", "ol > li > ul > li", "th", "td", "blockquote", "pre")}
    assert found == {"h3": ["Title"], "strong": ["bold"], "em": ["italic"], "del": ["gone"], "ol > li > ul > li": ["nested"], "th": ["a", "b"],
                     "td": ["1", "x|y"], "blockquote": ["quoted"], "pre": ["<i>raw</i>"]}, found
    links = text.locator("a").evaluate_all("links => links.map(a => [a.textContent, a.href, a.rel])")
    rel = "noopener noreferrer"
    assert links == [["good", "https://example.org/a_(b)", rel], ["pic", "https://example.org/x.png", rel],
                     ["https://example.org/page", "https://example.org/page", rel]], links
    assert "snake_case_name 2 * 3 * 4" in text.inner_text() and "<b>tag</b>" in text.inner_text()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    text.get_by_role("button", name="Copy").click()
    expect(text.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "<i>raw</i>"
    press(page, "Copy the answer")
    page.wait_for_function("written => navigator.clipboard.readText().then(text => text === written)", arg=written)


def check_markdown_is_quick_whatever_it_reads(page: Page):
    took = page.evaluate("""async () => {
      const { renderMarkdown } = await import(new URL("markdown.js", document.baseURI));
      const n = 20000;
      const texts = ["**a ", "*", "_a", "[", "[a](", "`", "``a`", "~~", "> ", "- ", "1. ", "|", "\\\\", "<", "![", "http://", "# ", " ", "- a\\n  ", "(", "~", "a*b_", "'", "/*", "'\\\\"];
      const took = {};
      for (const text of texts) {
        const box = document.createElement("div");
        const begun = performance.now();
        renderMarkdown(box, text.repeat(n / text.length));
        renderMarkdown(box, "```" + text.repeat(n / text.length) + "\\n```\\n```js\\n" + text.repeat(n / text.length));
        took[text] = performance.now() - begun;
      }
      return took;
    }""")
    slow = {text: round(ms) for text, ms in took.items() if ms > 300}
    assert not slow, slow


def check_a_growing_text_looks_as_the_whole_one(page: Page):
    """Texts made of marks at random: drawn piece by piece they end as drawn at once, with allowed elements alone."""
    wrong = page.evaluate("""async () => {
      const { renderMarkdown } = await import(new URL("markdown.js", document.baseURI));
      const parts = ["*", "**", "_", "`", "```", "```js", "~~", "[", "](", ")", "https://a.b/", "javascript:x", "<b>", "<br>", "|", "|--|", "\\n", "\\n\\n", "- ", "1. ",
        "  ", "   ", "> ", "# ", "---", "word", " ", "\\\\", "!", "\\t", "é", "🙂", "'", "//", "/*"];
      const allowed = new Set("P BR HR H3 H4 H5 H6 STRONG EM DEL CODE A SPAN UL OL LI BLOCKQUOTE PRE FIGURE FIGCAPTION BUTTON DIV TABLE THEAD TBODY TR TH TD svg path".split(" "));
      let seed = 1;
      const random = n => { seed = (seed * 48271) % 2147483647; return seed % n; };
      const wrong = [];
      for (let round = 0; round < 1500; round++) {
        const pieces = Array.from({ length: 1 + random(40) }, () => parts[random(parts.length)]);
        const [whole, grown] = [document.createElement("div"), document.createElement("div")];
        renderMarkdown(whole, pieces.join(""));
        for (let n = 1; n <= pieces.length; n++) renderMarkdown(grown, pieces.slice(0, n).join(""));
        const others = [...whole.querySelectorAll("*")].filter(e => !allowed.has(e.tagName));
        const links = [...whole.querySelectorAll("a")].filter(a => !/^https?:$/.test(a.protocol) || a.querySelector("a"));
        if (whole.innerHTML !== grown.innerHTML || others.length || links.length) wrong.push(pieces.join(""));
      }
      return wrong;
    }""")
    assert not wrong, wrong[:3]


def check_reasoning_is_folded(page: Page):
    played(page, sse(chunk({"role": "assistant"}), chunk({"reasoning_content": "I count "}), chunk({"reasoning_content": "slowly."}),
                     chunk({"content": "4"}), chunk({}, "stop")))
    ask(page, "think")
    assert text_of(page) == "4"
    thought = page.locator(".thought")
    assert thought.get_attribute("open") is None and not thought.locator(".markdown").is_visible()
    thought.locator("summary").click()
    assert thought.locator(".markdown").inner_text() == "I count slowly."


def check_tool_calls(page: Page):
    call = lambda **function: chunk({"tool_calls": [{"index": 0, "id": "t1", "function": function}]})
    played(page, sse(call(name="get_weather", arguments=""), call(arguments='{"city"'), call(arguments=': "Bern"}'), chunk({}, "tool_calls")), times=1)
    ask(page, "weather?")
    assert '"city": "Bern"' in page.locator(".answer .code").inner_text()
    requests = played(page, sse(chunk({"content": "Sunny."}), chunk({}, "stop")))
    page.get_by_label("What get_weather gave").fill("22 degrees")
    page.get_by_role("button", name="Go on with this").click()
    page.locator(".answer .text", has_text="Sunny.").wait_for()
    assistant, tool = requests[0]["messages"][-2:]
    assert assistant["tool_calls"][0]["function"] == {"name": "get_weather", "arguments": '{"city": "Bern"}'}, assistant
    assert tool == {"role": "tool", "content": "22 degrees", "tool_call_id": "t1"}, tool


def check_errors_are_told_and_tried_again(page: Page):
    cases = [
        (429, error_body(429, "queue full", "unavailable_error"), "too much to do"),
        (400, error_body(400, "x", "exceed_context_size_error", n_prompt_tokens=5000, n_ctx=2048), "5000 tokens"),
        (500, error_body(500, "something broke", "server_error"), "something broke"),
        (502, "<html>bad gateway</html>", "bad gateway"),
        (200, sse(chunk({"content": "half"}), {"error": {"code": 500, "message": "stopped in the middle", "type": "server_error"}}, done=False), "stopped in the middle"),
        (200, sse(chunk({"content": "half"}), done=False), "connection"),
        (200, "data: {not json\n\n", "no JSON"),
    ]
    for status, body, words in cases:
        played(page, body, status, times=1)
        ask(page, f"status {status}")
        problem = page.locator(".answer .problem").last
        assert words in problem.inner_text(), (words, problem.inner_text())
        if "half" in body:
            assert text_of(page) == "half", "what came is lost"
    page.unroute(CHAT)
    page.locator(".answer .problem").last.get_by_role("button", name="Try again").click()
    finished(page)
    assert text_of(page) and answers(page).last.locator(".problem").count() == 0
    page.route(CHAT, lambda route: route.abort(), times=1)
    ask(page, "no server")
    assert "connection" in page.locator(".answer .problem").last.inner_text()


def check_the_key_is_asked_for(page: Page):
    """The browser plays a server with the key `secret`, whatever the real one's is."""
    own = page.evaluate("window.key")

    def guarded(route):
        if route.request.headers.get("authorization") == "Bearer secret":
            headers = {name: value for name, value in route.request.headers.items() if name != "authorization"}
            route.continue_(headers=headers | ({"authorization": f"Bearer {own}"} if own else {}))
        else:
            route.fulfill(status=401, content_type="application/json", body=error_body(401, "Invalid API Key", "authentication_error"))

    page.evaluate("localStorage.clear(); localStorage.other = 1")
    page.route(EXPERTS, guarded)
    page.route(CHAT, guarded)
    page.reload()
    dialog = page.locator("#ask-key")
    dialog.wait_for()
    page.keyboard.press("Escape")
    assert "valid API key" in page.locator(".notice").inner_text()
    ask(page, QUESTION, wait=False)
    dialog.wait_for()
    dialog.locator("[name=key]").fill("wrong")
    page.keyboard.press("Enter")
    dialog.wait_for()
    dialog.locator("[name=key]").fill("secret")
    page.keyboard.press("Enter")
    finished(page)
    assert text_of(page)
    assert "secret" not in page.evaluate("JSON.stringify({ ...localStorage, ...sessionStorage })"), "the key is kept unasked"
    page.reload()
    dialog.wait_for()
    dialog.locator("[name=key]").fill("secret")
    dialog.get_by_label("Keep the key").check()
    page.keyboard.press("Enter")
    ready(page)
    page.reload()
    ready(page)
    page.wait_for_timeout(300)
    assert dialog.is_hidden(), "the key that was to be kept is forgotten"


def check_settings_are_sent(page: Page):
    page.click("#show-settings")
    dialog = page.locator("#settings")
    dialog.get_by_label("System message").fill("Answer briefly.")
    for label, value in (("Temperature", "0.2"), ("Top p", "0.9"), ("Max tokens", "7"), ("Seed", "42")):
        dialog.get_by_label(label).fill(value)
    dialog.get_by_label("Other fields").fill("{broken")
    dialog.get_by_role("button", name="Save").click()
    assert dialog.locator(".problem").is_visible()
    dialog.get_by_label("Other fields").fill('{"top_k": 5, "messages": [], "stream": false}')
    dialog.get_by_role("button", name="Save").click()
    sent = watched(page)
    ask(page, QUESTION)
    wanted = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 7, "seed": 42, "top_k": 5, "stream": True}
    assert {name: sent[0].get(name) for name in wanted} == wanted, sent[0]
    assert [m["role"] for m in sent[0]["messages"]] == ["system", "user"], sent[0]
    page.click("#new")
    ask(page, QUESTION)
    assert [m["role"] for m in sent[1]["messages"]] == ["user"], "another conversation has the system message"


def check_a_thousand_experts(page: Page):
    begun = time.monotonic()
    many(page, 1000)
    choose(page, "mix")
    page.get_by_label("Find experts").fill("expert-77")
    page.click("#pick-777")
    assert page.get_by_label("Find experts").input_value() == "expert-77", "the search is lost"
    assert page.locator("#chooser .slider").count() == 2
    assert page.locator("#chooser .pick").count() <= 40
    page.get_by_label("Find experts").fill("")
    assert "960 more" in page.locator("#chooser").inner_text()
    svf = {"mixture": {"expert-5": 1.0}, "strategy": "prompt", "label": "expert-5", "confidence": 0.5, "fallback": False,
           "probabilities": {f"expert-{i}": 0.5 if i == 5 else 0.5 / 999 for i in range(1000)}, "pass1_tokens": 4000, "pass1_ms": 90}
    played(page, sse(chunk({"role": "assistant"}, svf=svf), chunk({"content": "x"}), chunk({}, "stop", svf=svf)))
    ask(page, "hm")
    assert "995 others" in page.locator(".answer .strip").inner_text()
    assert time.monotonic() - begun < 15


def check_the_panel(page: Page):
    data = some_experts(page, 1)
    page.click("#show-panel")
    unfold(page, data[0]["name"])
    page.get_by_role("button", name="Let it answer").click()
    assert data[0]["name"] in page.locator("#who").inner_text()
    page.click("#tab-live")
    page.locator("#pane-live .tile").first.wait_for(timeout=10000)
    ask(page, QUESTION)
    page.locator("#pane-live polyline[points*=',']").wait_for(state="attached", timeout=10000)
    page.keyboard.press("Shift+Tab")
    page.locator("#tab-live").focus()
    page.keyboard.press("ArrowRight")
    page.locator("#pane-server .facts").wait_for()
    assert "total slots" in page.locator("#pane-server").inner_text()


def check_experts_are_loaded_and_unloaded(page: Page):
    expert = some_experts(page, 1)[0]
    known = experts(page)
    for can_load in (False, True):
        page.unroute_all()
        page.route(EXPERTS, lambda route: route.fulfill(json=known | {"can_load": can_load}))
        page.reload()
        ready(page)
        page.click("#show-panel")
        unfold(page, expert["name"])
        offered = page.locator(".load").is_visible(), page.get_by_role("button", name="Unload").is_visible()
        assert offered == (can_load, can_load), offered
    sent = []

    def adapter(route):
        sent.append((route.request.url.rsplit("/", 1)[1], route.request.post_data_json))
        if "bad" in route.request.post_data:
            route.fulfill(status=400, content_type="application/json", body=error_body(400, "outside of the folder", "invalid_request_error"))
        else:
            route.fulfill(status=200, content_type="text/plain", body="Success")

    page.route("**/v1/*load_lora_adapter", adapter)
    page.get_by_role("button", name="Unload").click()
    page.locator(".notice", has_text="is unloaded").wait_for()
    page.locator(".load [name=name]").fill("new")
    page.locator(".load [name=path]").fill("bad.gguf")
    page.get_by_role("button", name="Load", exact=True).click()
    page.locator(".notice", has_text="outside of the folder").wait_for()
    assert page.locator(".load [name=path]").input_value() == "bad.gguf", "what was typed is lost"
    page.locator(".load [name=path]").fill("good.gguf")
    page.get_by_role("button", name="Load", exact=True).click()
    page.locator(".notice", has_text="new is loaded").wait_for()
    assert sent == [("unload_lora_adapter", {"lora_name": expert["name"]}), ("load_lora_adapter", {"lora_name": "new", "lora_path": "bad.gguf"}),
                    ("load_lora_adapter", {"lora_name": "new", "lora_path": "good.gguf"})], sent


def check_a_server_that_loads_is_waited_for(page: Page):
    page.route(EXPERTS, lambda route: route.fulfill(status=503, content_type="application/json", body=error_body(503, "Loading model", "unavailable_error")), times=2)
    page.reload()
    page.locator("#model", has_text="loading").wait_for()
    page.locator(".card").first.wait_for(timeout=10000)


def check_two_tabs(page: Page):
    other = page.context.new_page()
    other.goto(page.url)
    ready(other)
    ask(page, QUESTION)
    other.locator("#conversations .open").click(timeout=5000)
    assert text_of(other) == text_of(page)


def check_an_answer_goes_on_while_another_is_read(page: Page):
    page.evaluate("window.slowness = 20")
    ask(page, QUESTION, wait=False)
    page.locator(".answer .text").get_by_text(re.compile(".")).first.wait_for()
    page.click("#new")
    assert page.locator("#send").is_visible() and answers(page).count() == 0
    ask(page, "Second one", wait=False)
    page.locator("#conversations .open", has_text="Leo").click()
    finished(page)
    assert answers(page).last.locator(".costs").inner_text()


def check_a_full_storage_is_told(page: Page):
    page.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }")
    ask(page, QUESTION)
    assert text_of(page)
    assert "no room" in page.locator(".notice").first.inner_text()


def check_keys(page: Page):
    page.fill("#question", "one")
    page.press("#question", "Shift+Enter")
    page.keyboard.type("two")
    assert page.input_value("#question") == "one\ntwo"
    page.press("#question", "Enter")
    finished(page)
    assert page.locator(".question .text").inner_text() == "one\ntwo"
    page.evaluate("document.activeElement.blur()")
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("(() => { const e = document.activeElement; const s = getComputedStyle(e); return [e.id || e.tagName, s.outlineStyle]; })()"))
    ringless = [name for name, outline in seen if outline == "none" and name not in ("BODY", "scroll")]
    assert not ringless, ringless


def check_the_focus_stays_near(page: Page):
    ask(page, QUESTION)
    press(page, "Answer again")
    finished(page)
    answers(page).last.get_by_role("button", name="The version before").focus()
    page.keyboard.press("Enter")
    assert "1/2" in answers(page).inner_text()
    assert page.evaluate("document.activeElement !== document.body"), "the focus is lost"


def check_text_files_are_added(page: Page):
    with tempfile.TemporaryDirectory() as folder:
        text, binary = Path(folder) / "notes.md", Path(folder) / "picture.bin"
        text.write_text("one\n```\ntwo\n```\n")
        binary.write_bytes(bytes(range(256)))
        page.fill("#question", "Read this.")
        page.set_input_files("#attach-file", [text, binary])
        page.locator(".notice", has_text="picture.bin is no text").wait_for()
        assert page.input_value("#question") == "Read this.\n\nnotes.md:\n````\none\n```\ntwo\n```\n````\n", page.input_value("#question")


def check_names_for_readers_of_the_screen(page: Page):
    choose(page, "mix")
    ask(page, QUESTION)
    page.click("#show-panel")
    page.wait_for_timeout(300)
    assert page.evaluate(NAMELESS) == []
    text = page.locator(".answer .text")
    assert text.get_attribute("aria-live") == "polite" and text.get_attribute("aria-busy") == "false"
    assert "Answered by" in page.locator("#spoken").inner_text() or "Answered by" in page.locator("#spoken").text_content()


def check_contrast(page: Page):
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.reload()
        ready(page)
        ask(page, QUESTION)
        played(page, error_body(429, "x", "y"), 429, times=1)
        ask(page, "busy")
        for panel in ("experts", "live", "server"):
            if page.locator("#panel").is_hidden():
                page.click("#show-panel")
            page.click(f"#tab-{panel}")
            page.wait_for_timeout(300)
            poor = page.evaluate(CONTRAST)
            assert not poor, (scheme, panel, poor)
        choose(page, "mix")
        assert not page.evaluate(CONTRAST), page.evaluate(CONTRAST)
        page.keyboard.press("Escape")
        page.click("#show-settings")
        assert not page.evaluate(CONTRAST), page.evaluate(CONTRAST)
        page.keyboard.press("Escape")


def check_dark_and_light(page: Page):
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="light")
    light = ground()
    page.emulate_media(color_scheme="dark")
    dark = ground()
    assert light != dark
    page.click("#theme")
    assert ground() == light
    page.reload()
    ready(page)
    assert ground() == light, "the choice is forgotten"


def check_motion_is_reduced(page: Page):
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("window.slowness = 30")
    ask(page, QUESTION, wait=False)
    page.locator(".answer").wait_for()
    assert page.evaluate("document.getAnimations().length") == 0
    finished(page)


def check_a_phone(page: Page):
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    ready(page)
    wide = "x" * 300
    played(page, sse(chunk({"content": f"{wide}\n\n```\n{wide}\n```\n\n| {' | '.join(['column'] * 20)} |\n|{'--|' * 20}\n"}), chunk({}, "stop")), times=1)
    ask(page, "wide " + wide)
    fits = lambda: page.evaluate("document.documentElement.scrollWidth <= 390 && document.querySelector('#scroll').scrollWidth <= document.querySelector('#scroll').clientWidth")
    assert fits(), "the page scrolls sideways"
    page.click("#show-list")
    page.locator("#new").click()
    page.wait_for_timeout(300)
    assert not page.locator("#list").is_visible(), "the drawer stays open"
    choose(page, "mix")
    for pick in page.locator("#chooser .pick").all()[:2]:
        pick.click()
    assert fits() and page.evaluate("document.querySelector('#chooser').scrollWidth <= document.querySelector('#chooser').clientWidth")
    page.keyboard.press("Escape")
    page.click("#show-panel")
    page.wait_for_timeout(300)
    assert page.locator("#panel").is_visible() and fits()
    page.keyboard.press("Escape")
    page.wait_for_timeout(300)
    assert not page.locator("#panel").is_visible()
    ask(page, QUESTION)
    small = page.locator("button:visible").evaluate_all("buttons => buttons.map(b => b.getBoundingClientRect()).filter(r => r.height < 24 || r.width < 24).length")
    assert small == 0, f"{small} buttons are smaller than a finger"


def check_a_person_may_scroll_up(page: Page):
    line = "A line of text.\n\n"
    played(page, sse(chunk({"content": line * 100}), *[chunk({"content": line}) for _ in range(200)], chunk({}, "stop")))
    page.evaluate("window.slowness = 5")
    ask(page, "long", wait=False)
    page.wait_for_function("() => document.querySelector('#scroll').scrollHeight > 3000")
    at_end = "() => { const s = document.querySelector('#scroll'); return s.scrollHeight - s.scrollTop - s.clientHeight < 60; }"
    page.wait_for_function(at_end)
    page.locator("#scroll").evaluate("e => { e.scrollTop = 0; }")
    page.wait_for_timeout(400)
    assert page.locator("#scroll").evaluate("e => e.scrollTop") == 0, "the page went down by itself"
    page.click("#latest")
    page.wait_for_function(at_end)
    page.click("#stop")


def screenshots(page: Page, folder: Path):
    """Pictures to look at: no check."""
    for name, size, scheme in (("light", (1280, 860), "light"), ("dark", (1280, 860), "dark"), ("phone", (390, 844), "light")):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(color_scheme=scheme)
        page.evaluate("localStorage.clear()")
        page.reload()
        ready(page)
        page.screenshot(path=folder / f"{name}-welcome.png")
        ask(page, QUESTION)
        page.screenshot(path=folder / f"{name}-answer.png")
        choose(page, "mix")
        for pick in page.locator("#chooser .pick").all()[:2]:
            pick.click()
        page.screenshot(path=folder / f"{name}-mixture.png")
        page.keyboard.press("Escape")
        page.click("#show-panel")
        page.click("#tab-live")
        page.wait_for_timeout(2500)
        page.screenshot(path=folder / f"{name}-live.png")


def browser_path():
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        sys.exit("no Chromium here: install Debian's package chromium, or name one in $CHROMIUM")
    return found


class Run:
    def __init__(self, browser, url, key):
        self.browser, self.url, self.key = browser, url, key
        self.counts = {"passed": 0, "failed": 0, "skipped": 0}

    def page(self):
        """A page in a browser that keeps nothing, and the problems that are seen on it."""
        context = self.browser.new_context(viewport={"width": 1280, "height": 860})
        context.set_default_timeout(10000)
        context.add_init_script(SLOW)
        if self.key:
            # The page reads it once, as a key that was kept.
            context.add_init_script(f"window.key = {json.dumps(self.key)}; if (!localStorage.length) localStorage['llama-svf:key'] = JSON.stringify(key);")
        problems = []
        origin = urlsplit(self.url).netloc
        context.on("request", lambda request: urlsplit(request.url).netloc in ("", origin) or problems.append(f"asked for {request.url}"))
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
        page.goto(self.url)
        ready(page)
        return page, problems

    def one(self, check):
        name = check.__name__.removeprefix("check_").replace("_", " ")
        page, problems = self.page()
        try:
            check(page)
            assert not problems, problems
            outcome, why = "passed", ""
        except Skipped as reason:
            outcome, why = "skipped", f": {reason}"
        except Exception as error:
            line = traceback.extract_tb(error.__traceback__)[-1]
            own = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == __file__]
            outcome, why = "failed", f" (line {own[-1] if own else line.lineno}): {str(error)[:600] or line.line}"
        page.context.close()
        self.counts[outcome] += 1
        print({"passed": "ok     ", "failed": "FAILED ", "skipped": "skipped"}[outcome], name + why, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--screenshots", type=Path, metavar="FOLDER")
    parser.add_argument("--key", help="the server's API key")
    parser.add_argument("--only", default="", metavar="WORDS", help="run the checks with these words in their names")
    given = parser.parse_args()
    checks = [check for name, check in globals().items() if name.startswith("check_") and given.only in name.replace("_", " ")]
    with sync_playwright() as playwright:
        # The page is our own, and so is what it shows: root has no sandbox to run it in.
        browser = playwright.chromium.launch(executable_path=browser_path(), args=["--no-sandbox"])
        run = Run(browser, given.url, given.key)
        for check in checks:
            run.one(check)
        if given.screenshots:
            given.screenshots.mkdir(parents=True, exist_ok=True)
            page, _ = run.page()
            screenshots(page, given.screenshots)
        browser.close()
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**run.counts))
    return 1 if run.counts["failed"] or not run.counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
