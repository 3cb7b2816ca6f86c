// The openai package of npm against a running server, which has the embedded model with its experts.
//
//   node tests/serve/openai_package.mjs URL [KEY]
//
// Prints a line for each check, and exits with 1 where one failed. The package is looked for as node does, or in the folder
// that the variable OPENAI_PACKAGE names.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const require = createRequire(process.env.OPENAI_PACKAGE ? `${process.env.OPENAI_PACKAGE}/` : import.meta.url);
const { OpenAI, BadRequestError } = require("openai");

const [url, key = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url.replace(/\/$/, "")}/v1`, apiKey: key, maxRetries: 0 });
const messages = [{ role: "user", content: "Leo has 5 boxes of 4 hats. Leo wins 7. How many hats does Leo have?" }];
const parameters = { type: "object", properties: { town: { enum: ["Rome", "Oslo"] } }, required: ["town"] };
const tools = [{ type: "function", function: { name: "weather", description: "the weather of a town", parameters } }];

const checks = {
  async chat() {
    const reply = await client.chat.completions.create({ model: "math", messages, temperature: 0, max_tokens: 60 });
    assert.match(reply.choices[0].message.content, /Answer: 27$/);
    assert.deepEqual(reply.svf.mixture, { math: 1 });
  },
  async stream() {
    let text = "";
    const stream = await client.chat.completions.create({ model: "auto", messages, temperature: 0, stream: true });
    let svf;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      svf = chunk.svf ?? svf;
    }
    assert.match(text, /Answer: 27$/);
    assert.equal(svf.label, "math");
  },
  async left() {
    const stream = await client.chat.completions.create({ model: "math", messages, stream: true, max_tokens: 100 });
    for await (const chunk of stream) {
      assert.ok(chunk.id);
      break;
    }
  },
  async tools() {
    // The embedded model never heard of tools: it is helped to begin, and the grammar does the rest.
    const begun = { role: "assistant", content: '<tool_call>\n{"name": "weather", "arguments": {' };
    const body = { model: "base", messages: [...messages, begun], tools, tool_choice: "required", temperature: 0 };
    const runner = client.chat.completions.stream({ ...body, max_tokens: 250, parallel_tool_calls: false });
    const message = await runner.finalMessage();
    assert.equal(message.tool_calls[0].function.name, "weather");
    assert.ok(["Rome", "Oslo"].includes(JSON.parse(message.tool_calls[0].function.arguments).town));
  },
  async schema() {
    const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"] };
    const response_format = { type: "json_schema", json_schema: { name: "thing", schema } };
    const reply = await client.chat.completions.create({ model: "base", messages, response_format, max_tokens: 60 });
    assert.equal(typeof JSON.parse(reply.choices[0].message.content).yes, "boolean");
  },
  async errors() {
    await assert.rejects(client.chat.completions.create({ model: "any", messages: "none" }), error => {
      assert.ok(error instanceof BadRequestError && error.error.message, String(error));
      return true;
    });
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ok      ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${name}\n${error.stack}`);
  }
}
console.log(`openai for node ${process.version}: ${Object.keys(checks).length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
