// The realtime sessions of the OpenAI agents SDK for JavaScript.
//
// Called with the name of a scene; prints one JSON object: what it saw. See talk.py for the environment.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const modules = createRequire(`${process.env.NODE_MODULES}/`);
const load = (name) => import(pathToFileURL(modules.resolve(name)));
const { RealtimeAgent, RealtimeSession, OpenAIRealtimeWebSocket, tool } = await load("@openai/agents-realtime");
const { z } = await load("zod");

const RATE = 24000;
const CALL = 'Please use set_lamp {"on": true}';
const RESULT = "The lamp is on.";
const PATIENCE_MS = 40_000;

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

// The data of a WAV file with the usual header.
const question = () => readFileSync(process.env.QUESTION).subarray(44);

class Talk {
  heard = 0;
  ends = 0;
  cut = 0;
  errors = [];
  tools = [];

  constructor() {
    const setLamp = tool({
      name: "set_lamp",
      description: "Switch the lamp.",
      parameters: z.object({ on: z.boolean() }),
      execute: async () => RESULT,
    });
    const agent = new RealtimeAgent({ name: "Lamp", instructions: "Answer briefly.", tools: [setLamp] });
    const transport = new OpenAIRealtimeWebSocket();
    this.session = new RealtimeSession(agent, { model: "gpt-realtime-2.1", transport, tracingDisabled: true });
    this.session.on("audio", (event) => (this.heard += event.data.byteLength));
    this.session.on("audio_interrupted", () => (this.cut += 1));
    this.session.on("agent_end", () => (this.ends += 1));
    this.session.on("agent_tool_end", (_context, _agent, _tool, result) => this.tools.push(result));
    this.session.on("error", (error) => this.errors.push(JSON.stringify(error)));
  }

  async connect() {
    const url = `${process.env.SERVICE_URL}?model=gpt-realtime-2.1`;
    await this.session.connect({ apiKey: process.env.SERVICE_KEY, url });
  }

  async speak(pcm) {
    const size = (2 * RATE) / 10;
    for (let start = 0; start < pcm.length; start += size) {
      const piece = pcm.subarray(start, start + size);
      this.session.sendAudio(piece.buffer.slice(piece.byteOffset, piece.byteOffset + piece.length));
      await pause(5);
    }
  }

  async until(found) {
    while (!found()) await pause(10);
  }

  told() {
    const content = this.session.history.flatMap((item) => item.content ?? []);
    const said = content.map((part) => part.transcript ?? part.text ?? "");
    return { heard: this.heard, cut: this.cut, tools: this.tools, said, errors: this.errors };
  }
}

const scenes = {
  async turn(talk) {
    await talk.speak(question());
    await talk.until(() => talk.ends >= 1);
  },
  async tool(talk) {
    talk.session.sendMessage(CALL);
    await talk.until(() => talk.ends >= 2);
  },
  async interruption(talk) {
    await talk.speak(question());
    await talk.until(() => talk.heard >= RATE);
    talk.session.interrupt();
    await talk.speak(question());
    await talk.until(() => talk.ends >= 2);
  },
};

const giveUp = setTimeout(() => {
  console.error("nothing happens any more");
  process.exit(1);
}, PATIENCE_MS);
const talk = new Talk();
await talk.connect();
await scenes[process.argv[2]](talk);
await pause(300);
clearTimeout(giveUp);
console.log(JSON.stringify(talk.told()));
process.exit(0);
