// Writes what the server sends for people in another language. The language's own chunk contains this: in English, the server's texts are
// shown as they are.

import type { ConsentView, ForPerson, Problem, ProviderView, SessionView } from "../api";
import type { ServerTexts } from "./server-texts";

type Values = Record<string, string>;

/** Replaces each `{name}` by its value. */
function fill(template: string, values: Values): string {
  return template.replace(/\{(\w+)\}/g, (name, key: string) => values[key] ?? name).trim();
}

/** The close code of all errors about a session that has ended. */
const ENDED = 4410;

export class Translation {
  constructor(private readonly texts: ServerTexts) {}

  problem({ code, close_code, for_person }: Problem): string {
    const { ends, problems } = this.texts;
    return (close_code === ENDED ? ends[code] : problems[code]) ?? for_person;
  }

  session(session: SessionView): SessionView {
    const { policies, unexpected_address } = this.texts;
    const { owner_name, provider_name, policy, sign_in } = session;
    const { prompt, unexpected_address: address } = sign_in;
    return {
      ...session,
      for_person: this.#situation(session.for_person),
      policy_sentence: fill(policies[policy] ?? session.policy_sentence, { owner: owner_name }),
      methods: this.#methods(session.methods),
      sign_in: {
        ...sign_in,
        prompt: prompt === null ? null : { ...prompt, label: this.#descriptor(prompt.label), ...this.#hints(prompt) },
        unexpected_address:
          address === null ? null : { ...address, sentence: fill(unexpected_address, { host: address.host, tool: provider_name }) },
      },
    };
  }

  provider(provider: ProviderView): ProviderView {
    return { ...provider, methods: this.#methods(provider.methods) };
  }

  /** What the owner of the session asks the person. */
  request({ policy, owner_name, provider_name, return_host, sentence }: ConsentView): string {
    const request = this.texts.requests[policy];
    if (request === undefined) return sentence;
    const all = return_host === null ? request : request + this.texts.request_return;
    return fill(all, { owner: owner_name, tool: provider_name, host: return_host ?? "" });
  }

  #situation(shown: ForPerson): ForPerson {
    const { situations, ends, place, times, duration } = this.texts;
    const { tool, owner, host, instruction, position, wait_s, machines, idle_s_max, total_s_max, reason } = shown.values;
    const texts = situations[shown.situation];
    // A newer server may have other situations.
    if (texts === undefined) return shown;
    const values = {
      tool,
      owner,
      host: host ?? "",
      instruction: this.#descriptor(instruction),
      place: place(position ?? 1, wait_s),
      machines: times(machines),
      idle_time: duration(idle_s_max),
      total_time: duration(total_s_max),
      reason: ends[reason ?? ""] ?? "",
    };
    return { ...shown, title: fill(texts.title, values), sentence: fill(texts.sentence, values) };
  }

  #methods(methods: SessionView["methods"]): SessionView["methods"] {
    return methods.map((method) => ({ ...method, label: this.#descriptor(method.label) }));
  }

  #hints({ expected_format, rejection }: { expected_format: string | null; rejection: string | null }) {
    const translated = (text: string | null) => (text === null ? null : this.#descriptor(text));
    return { expected_format: translated(expected_format), rejection: translated(rejection) };
  }

  /** A descriptor that is not built in has its texts in one language. */
  #descriptor(text: string): string {
    return this.texts.descriptors[text] ?? text;
  }
}
