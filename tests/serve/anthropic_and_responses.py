#!/usr/bin/env python3
"""Anthropic's and OpenAI's own clients.

    tests/serve/anthropic_and_responses.py URL [--key KEY] [--only CHECK...]

asks a running `llama-svf serve`, of one of Qwen2.5's models, through PyPI's packages `anthropic` and `openai`.
Prints a line for each check; exits with 1 where one failed.
"""

import argparse
import json
import sys
import traceback

import anthropic
import openai

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ASK = [{"role": "user", "content": "What is the weather in Paris?"}]
# Small models of Qwen's do not call tools on their own.
CALL = {"temperature": 0, "logit_bias": [["<tool_call>", 20]]}


def messages(client: anthropic.Anthropic):
    answer = client.messages.create(model="base", max_tokens=8, messages=ASK, extra_body={"svf": {"mix": {}}})
    assert answer.content[0].type == "text" and answer.stop_reason == "max_tokens", answer
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens > 8 == answer.usage.output_tokens, answer
    assert answer.svf == {"mixture": {}, "strategy": "fixed"}, answer
    word = answer.content[0].text.split()[1]
    answer = client.messages.create(
        model="base", max_tokens=8, messages=ASK, stop_sequences=[word], extra_body={"temperature": 0}
    )
    assert answer.stop_reason in ("stop_sequence", "max_tokens"), answer
    assert (answer.stop_sequence == word) == (answer.stop_reason == "stop_sequence"), answer
    counted = client.messages.count_tokens(model="base", messages=ASK)
    assert counted.input_tokens == answer.usage.input_tokens + answer.usage.cache_read_input_tokens, counted


def messages_stream(client: anthropic.Anthropic):
    with client.messages.stream(model="base", max_tokens=8, messages=ASK) as stream:
        text = "".join(stream.text_stream)
        answer = stream.get_final_message()
    assert text and text == answer.content[0].text, answer
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 8, answer


def messages_tools(client: anthropic.Anthropic):
    tools = [{"name": name, "description": "Weather", "input_schema": SCHEMA} for name in ("today", "tomorrow")]
    wish = {"type": "tool", "name": "tomorrow", "disable_parallel_tool_use": True}
    with client.messages.stream(
        model="base", max_tokens=100, messages=ASK, tools=tools, tool_choice=wish, extra_body=CALL
    ) as stream:
        answer = stream.get_final_message()
    call = answer.content[-1]
    assert answer.stop_reason == "tool_use" and call.name == "tomorrow" and "city" in call.input, answer
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain"}]}
    said = [*ASK, {"role": "assistant", "content": answer.content}, {"role": "user", "content": [result]}]
    answer = client.messages.create(model="base", max_tokens=8, messages=said, tools=tools)
    assert answer.content, answer


def messages_errors(client: anthropic.Anthropic):
    for body, expected in [
        ({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}, "audio"),
        ({"messages": ASK, "extra_body": {"svf": {"mix": {"no such": 1}}}}, "no such"),
        ({"messages": [{"role": "user", "content": "word " * 100_000}]}, "context"),
    ]:
        try:
            raise AssertionError(client.messages.create(model="base", max_tokens=8, **body))
        except anthropic.APIStatusError as error:
            assert error.body["type"] == "error" and expected in error.body["error"]["message"], error.body


def responses(client: openai.OpenAI):
    answer = client.responses.create(model="base", input=ASK, max_output_tokens=8, extra_body={"svf": {"mix": {}}})
    assert answer.output_text and answer.status == "incomplete", answer
    assert answer.incomplete_details.reason == "max_output_tokens" and answer.usage.output_tokens == 8, answer
    assert answer.usage.output_tokens_details.reasoning_tokens == 0, answer
    assert answer.svf == {"mixture": {}, "strategy": "fixed"}, answer
    probable = client.responses.create(
        model="base", input="Hi", max_output_tokens=2, top_logprobs=3, include=["message.output_text.logprobs"]
    )
    assert len(probable.output[0].content[0].logprobs[0].top_logprobs) == 3, probable


def responses_stream(client: openai.OpenAI):
    with client.responses.stream(model="base", input=ASK, instructions="Be brief.", max_output_tokens=8) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events))), events
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text and text == answer.output_text, answer


def responses_tools(client: openai.OpenAI):
    tools = [{"type": "function", "name": name, "parameters": SCHEMA} for name in ("today", "tomorrow")]
    wish = {"type": "function", "name": "tomorrow"}
    how = {"tools": tools, "tool_choice": wish, "parallel_tool_calls": False, "max_output_tokens": 100, "extra_body": CALL}
    with client.responses.stream(model="base", input=ASK, **how) as stream:
        events = list(stream)
        answer = stream.get_final_response()
    call = answer.output[-1]
    assert call.type == "function_call" and call.name == "tomorrow" and "city" in json.loads(call.arguments), answer
    done = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert [event.arguments for event in done] == [call.arguments], events
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain"}
    said = [*ASK, call.model_dump(), result]
    answer = client.responses.create(model="base", input=said, tools=tools, max_output_tokens=8)
    assert answer.output, answer


def responses_schema(client: openai.OpenAI):
    form = {"type": "json_schema", "name": "place", "schema": SCHEMA}
    answer = client.responses.create(
        model="base", input="Where is the Louvre?", text={"format": form}, max_output_tokens=200, temperature=0
    )
    assert answer.status == "completed" and "city" in json.loads(answer.output_text), answer


def responses_errors(client: openai.OpenAI):
    for body, expected in [
        ({"input": "Hi", "previous_response_id": "resp_1"}, "previous_response_id"),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "item_reference"),
    ]:
        try:
            raise AssertionError(client.responses.create(model="base", **body))
        except openai.BadRequestError as error:
            assert expected in error.message, error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--key", default="none")
    parser.add_argument("--only", nargs="*", help="names of checks")
    args = parser.parse_args()
    url = args.url.rstrip("/")
    clients = {
        "messages": anthropic.Anthropic(api_key=args.key, base_url=url, max_retries=0),
        "responses": openai.OpenAI(api_key=args.key, base_url=url + "/v1", max_retries=0),
    }
    checks = [messages, messages_stream, messages_tools, messages_errors]
    checks += [responses, responses_stream, responses_tools, responses_schema, responses_errors]
    n_failed = 0
    for check in checks:
        if args.only and check.__name__ not in args.only:
            continue
        try:
            check(clients[check.__name__.split("_")[0]])
            print("ok    ", check.__name__)
        except Exception:
            n_failed += 1
            print("FAILED", check.__name__)
            traceback.print_exc()
    sys.exit(1 if n_failed else 0)


if __name__ == "__main__":
    main()
