#!/usr/bin/env python3
"""The openai package for Python against a running server.

    tests/serve/openai_package.py URL [--key KEY]

The server runs the embedded model, with its experts math, code and reasoning. Prints a line for each check, and exits with 1
where one failed. Needs the package `openai` from PyPI.
"""

import argparse
import json
import sys
import traceback

import openai

QUESTION = [{"role": "user", "content": "Leo has 5 boxes of 4 hats. Leo wins 7. How many hats does Leo have?"}]
ANSWER = "Answer: 27"
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather of a town",
        "parameters": {
            "type": "object",
            "properties": {"town": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
            "required": ["town", "days"],
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}, "n": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["colour", "n"],
    "additionalProperties": False,
}


def chat(client):
    reply = client.chat.completions.create(model="math", messages=QUESTION, temperature=0, max_tokens=60)
    assert reply.choices[0].message.content.endswith(ANSWER), reply
    assert reply.choices[0].finish_reason == "stop" and reply.model == "math", reply
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.svf["mixture"] == {"math": 1.0} and reply.svf["strategy"] == "fixed", reply.svf


def a_mixture_and_a_choice(client):
    mixed = client.chat.completions.create(
        model="any", messages=QUESTION, temperature=0, extra_body={"svf": {"mix": {"math": 0.9, "code": 0.1}}}
    )
    assert set(mixed.svf["mixture"]) == {"math", "code"}, mixed.svf
    chosen = client.chat.completions.create(model="auto", messages=QUESTION, temperature=0)
    assert chosen.svf["label"] == "math" and chosen.svf["confidence"] > 0.5, chosen.svf
    assert chosen.choices[0].message.content.endswith(ANSWER), chosen
    raw = client.chat.completions.with_raw_response.create(model="base", messages=QUESTION, temperature=0)
    assert raw.headers["x-svf-mixture"] == "base", raw.headers


def stream(client):
    text, finish, usage, n = "", None, None, 0
    for chunk in client.chat.completions.create(
        model="math", messages=QUESTION, temperature=0, stream=True, stream_options={"include_usage": True}
    ):
        n += 1
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
    assert text.endswith(ANSWER) and finish == "stop" and usage.completion_tokens > 10 and n > 10, (text, finish, usage, n)


def a_stream_that_is_left(client):
    reply = client.chat.completions.create(model="math", messages=QUESTION, stream=True, max_tokens=100)
    next(iter(reply))
    reply.close()


def several(client):
    reply = client.chat.completions.create(model="math", messages=QUESTION, n=3, max_tokens=20, temperature=1.5, seed=3)
    assert [choice.index for choice in reply.choices] == [0, 1, 2]
    again = client.chat.completions.create(model="math", messages=QUESTION, n=3, max_tokens=20, temperature=1.5, seed=3)
    texts = [choice.message.content for choice in reply.choices]
    assert texts == [choice.message.content for choice in again.choices] and len(set(texts)) > 1, texts


def log_probs(client):
    reply = client.chat.completions.create(
        model="math", messages=QUESTION, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3
    )
    tokens = reply.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == reply.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3 and token.top_logprobs[0].token == token.token


def tools(client):
    # The embedded model never heard of tools: it is helped to begin, and the grammar does the rest.
    begun = {"role": "assistant", "content": '<tool_call>\n{"name": "weather", "arguments": {'}
    body = {
        "model": "base", "messages": [*QUESTION, begun], "tools": [WEATHER], "tool_choice": "required", "temperature": 0,
        "max_tokens": 250, "parallel_tool_calls": False,
    }
    reply = client.chat.completions.create(**body)
    call = reply.choices[0].message.tool_calls[0]
    arguments = json.loads(call.function.arguments)
    assert call.function.name == "weather" and arguments["town"] in ("Rome", "Oslo") and 1 <= arguments["days"] <= 7, call
    assert reply.choices[0].finish_reason == "tool_calls" and call.id, reply
    name, arguments, finish = "", "", None
    for chunk in client.chat.completions.create(**body, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                name += part.function.name or ""
                arguments += part.function.arguments or ""
    assert name == "weather" and finish == "tool_calls" and json.loads(arguments)["town"] in ("Rome", "Oslo"), arguments


def a_schema(client):
    reply = client.chat.completions.create(
        model="base", messages=QUESTION, max_tokens=60, temperature=0.5, seed=1,
        response_format={"type": "json_schema", "json_schema": {"name": "thing", "schema": SCHEMA, "strict": True}},
    )
    thing = json.loads(reply.choices[0].message.content)
    assert set(thing) == {"colour", "n"} and thing["colour"] in ("red", "blue") and 0 <= thing["n"] <= 99, thing


def completions(client):
    reply = client.completions.create(model="math", prompt="Leo has 5 boxes", max_tokens=4, temperature=0, echo=True)
    assert reply.choices[0].text.startswith("Leo has 5 boxes") and reply.choices[0].finish_reason == "length", reply
    texts = client.completions.create(model="math", prompt=["Leo has", "Mia has"], max_tokens=4, temperature=0)
    assert len(texts.choices) == 2, texts


def models(client):
    names = [model.id for model in client.models.list()]
    assert {"math", "code", "reasoning", "auto"} <= set(names), names


def errors(client):
    def fails(kind, **body):
        try:
            client.chat.completions.create(**({"model": "any", "messages": QUESTION, "max_tokens": 2} | body))
        except kind as error:
            assert error.body["message"] and error.body["type"] and error.body["code"] == error.status_code, error.body
            return error
        raise AssertionError(f"{body} is no {kind}")

    fails(openai.BadRequestError, messages=[{"role": "user"}])
    fails(openai.BadRequestError, temperature="hot")
    fails(openai.BadRequestError, response_format={"type": "sound"})
    fails(openai.NotFoundError, extra_body={"svf": {"mix": {"nobody": 1}}})
    fails(openai.NotFoundError, model="base:nobody")
    error = fails(openai.BadRequestError, messages=[{"role": "user", "content": "word " * 5000}])
    assert error.body["type"] == "exceed_context_size_error" and error.body["n_prompt_tokens"] > 5000, error.body


def keys(client):
    if client.api_key == "none":
        return
    try:
        openai.OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0).completions.create(model="a", prompt="b")
    except openai.AuthenticationError:
        return
    raise AssertionError("a wrong key was taken")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    args = parser.parse_args()
    client = openai.OpenAI(base_url=f"{args.url.rstrip('/')}/v1", api_key=args.key, max_retries=0, timeout=60)
    checks = [
        chat, a_mixture_and_a_choice, stream, a_stream_that_is_left, several, log_probs, tools, a_schema, completions, models,
        errors, keys,
    ]
    failed = 0
    for check in checks:
        try:
            check(client)
            print(f"ok      {check.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED  {check.__name__}\n{traceback.format_exc()}")
    print(f"openai {openai.__version__} for Python: {len(checks) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
