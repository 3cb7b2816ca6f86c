/** Requests to the server that this page came from. Addresses are relative, so that it may lie behind a path. */

import { events } from "./sse.js";

/** An answer that is an error: `status` as in HTTP, `type` and `message` as the server said, `body` the rest of it. */
export class ServerError extends Error {
  constructor(status, body) {
    super(body?.message || `The server answered with status ${status}.`);
    this.status = status;
    this.type = body?.type ?? "";
    this.body = body ?? {};
  }
}

let key = "";
let askForKey = async () => null;
let asking = null;

/** The API key to send, empty for none. */
export const setKey = value => {
  key = value;
};
export const getKey = () => key;

/** What to call when the server wants a key: gives one, or `null` when the person has none. */
export const onKeyWanted = ask => {
  askForKey = ask;
};

async function send(path, { body, signal }) {
  const headers = {};
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const method = body === undefined ? "GET" : "POST";
  return fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: "no-store" });
}

/** However many requests want a key at once, the person is asked once. */
async function newKey(refused) {
  if (key !== refused) return key;
  asking ??= askForKey().finally(() => {
    asking = null;
  });
  return asking;
}

/**
 * The server's answer to a GET, or to a POST where there is a `body`. Throws [`ServerError`] for any that is an error; the person is
 * asked for a key that the server wants, unless `quiet`.
 */
export async function request(path, { body, signal, quiet = false } = {}) {
  for (;;) {
    const sent = key;
    const response = await send(path, { body, signal });
    if (response.ok) return response;
    const text = await response.text();
    if (response.status === 401 && !quiet && (await newKey(sent)) !== null) continue;
    throw new ServerError(response.status, parsed(text)?.error ?? { message: text.slice(0, 300) });
  }
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getText = async (path, options) => (await request(path, options)).text();

/** The chunks of a streamed chat completion; throws where the server says so in the middle, or stops too early. */
export async function* chat(body, signal) {
  const response = await request("v1/chat/completions", { body: { ...body, stream: true }, signal });
  for await (const data of events(response.body)) {
    if (data === "[DONE]") return;
    const chunk = parsed(data);
    if (!chunk) throw new Error("The server sent something that is no JSON.");
    if (chunk.error) throw new ServerError(chunk.error.code ?? 500, chunk.error);
    yield chunk;
  }
  throw new TypeError("cut");
}

/** Whether the request was ended here, on purpose. */
export const wasStopped = error => error?.name === "AbortError";

/** What went wrong, for people. */
export function inWords(error) {
  if (error instanceof TypeError) return "The connection to the server was lost, or it is not running.";
  if (!(error instanceof ServerError)) return error?.message || String(error);
  const { n_prompt_tokens: prompt, n_ctx: context } = error.body;
  if (error.type === "exceed_context_size_error" && prompt) {
    return `This conversation has ${prompt} tokens, more than the ${context} that fit. Shorten it, or begin a new one.`;
  }
  if (error.status === 401) return "The server wants a valid API key.";
  if (error.status === 429) return "The server has too much to do. Try again in a moment.";
  if (error.status === 503) return `The server is not ready: ${error.message}`;
  return error.message;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
