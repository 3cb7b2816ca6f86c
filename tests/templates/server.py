"""Asks a stock llama-server what it makes of conversations: one line of JSON for each template and conversation.

    server.py MODEL CONVERSATIONS.json TEMPLATE.jinja…

Each template is given to a server of its own. A line holds the template's path, the number of the conversation, and the
prompt with its tokens, or the server's error. The server is the one in the package xllamacpp.
"""

import json
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import xllamacpp


def post(address, route, body):
    request = urllib.request.Request(
        address + route, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def serve(model, template):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = model
    parameters.n_ctx = 256
    parameters.n_parallel = 1
    parameters.use_jinja = True
    parameters.port = 0
    parameters.verbosity = -1
    if template is not None:
        with open(template, encoding="utf-8") as file:
            parameters.chat_template = file.read()
    return xllamacpp.Server(parameters)


def ask(model, conversations, template):
    try:
        server = serve(model, template)
    except Exception as error:
        return [{"template": template, "conversation": None, "error": str(error)}]
    lines = []
    for number, messages in enumerate(conversations):
        line = {"template": template, "conversation": number}
        try:
            line["prompt"] = post(server.listening_address, "/apply-template", {"messages": messages})["prompt"]
            text = {"content": line["prompt"], "add_special": True, "parse_special": True}
            line["tokens"] = post(server.listening_address, "/tokenize", text)["tokens"]
        except urllib.error.HTTPError as error:
            line["error"] = error.read().decode()
        lines.append(line)
    return lines


def main():
    model, conversations, *templates = sys.argv[1:]
    with open(conversations, encoding="utf-8") as file:
        conversations = json.load(file)
    with ThreadPoolExecutor(2) as pool:
        for lines in pool.map(lambda template: ask(model, conversations, template), templates or [None]):
            for line in lines:
                print(json.dumps(line), flush=True)


main()
