"""Asks a stock llama-server what it makes of conversations: one line of JSON for each template and conversation.

    server.py MODEL CONVERSATIONS.json TEMPLATE.jinja…

A conversation is the body of a chat completion. Each template is given to a server of its own. A line holds the template's
path, the number of the conversation, and the prompt with its tokens, or where `n_predict` says that it is to be answered,
the answer and how the server saw to it; or else the server's error. The server is the one in the package xllamacpp.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import xllamacpp


def post(address, route, body):
    request = urllib.request.Request(
        address + route, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=150) as answer:
        return json.load(answer)


def ask(model, conversations, template):
    """Asks a server of this process, which ends with it: servers that are taken down may wait for each other."""
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    is_answered = any("n_predict" in body for body in conversations)
    parameters.n_ctx = 8192 if is_answered else 256
    parameters.n_parallel = 1
    parameters.use_jinja = True
    parameters.port = 0
    # From 10 on, answers say how they came about.
    parameters.verbosity = 10 if is_answered else -1
    if template:
        with open(template, encoding="utf-8") as file:
            parameters.chat_template = file.read()
    lines = []
    try:
        server = xllamacpp.Server(parameters)
        address = server.listening_address
    except Exception as error:
        lines.append({"template": template, "conversation": None, "error": str(error)})
        conversations = []
    for number, body in enumerate(conversations):
        line = {"template": template, "conversation": number}
        try:
            if "n_predict" in body:
                line["answer"] = post(address, "/v1/chat/completions", body)
                lines.append(line)
                continue
            line["prompt"] = post(address, "/apply-template", body)["prompt"]
            text = {"content": line["prompt"], "add_special": True, "parse_special": True}
            line["tokens"] = post(address, "/tokenize", text)["tokens"]
        except urllib.error.HTTPError as error:
            line["error"] = error.read().decode()
        lines.append(line)
    print("\n".join(map(json.dumps, lines)), flush=True)
    os._exit(0)


def ask_alone(model, conversations, template):
    """The same in a process of its own, again if it hangs."""
    command = [sys.executable, __file__, "--one", model, conversations, template]
    for attempt in range(3):
        try:
            # The server says much there.
            quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
            return subprocess.run(command, timeout=180, check=True, **quiet).stdout
        except subprocess.TimeoutExpired:
            print(f"{template}: no answer in three minutes, attempt {attempt + 1}", file=sys.stderr)
    sys.exit(f"{template}: no answer")


def main():
    is_one = sys.argv[1] == "--one"
    model, conversations, *templates = sys.argv[1 + is_one :]
    if is_one:
        with open(conversations, encoding="utf-8") as file:
            ask(model, json.load(file), templates[0])
    with ThreadPoolExecutor(2) as pool:
        for lines in pool.map(lambda template: ask_alone(model, conversations, template), templates or [""]):
            print(lines, end="", flush=True)


main()
