// Writes what the server sends for people in another language. The language's own chunk contains this: in English, the server's texts are
// shown as they are.

import type { ConsentView, ForPerson, Problem, ProviderView, SessionView } from "../api";
import type { ServerTexts } from "./server-texts";

type Values = Record<string, string>;

/** Replaces each `{name}` by its value. */
function fill(template: string, values: Values): string {
  return template.replace(/\{(\w+)\}/g, (name, key: string) => values[key] ?? name).trim();
}

/** The template with the description of an owner without a name, which has a capital letter at the start of a sentence. */
function withDescription(template: string, described: string): string {
  const capital = described.charAt(0).toUpperCase() + described.slice(1);
  return template.replace(/(^|\. )\{owner\}/g, `$1${capital}`).replaceAll("{owner}", described);
}

/** The close code of all errors about a session that has ended. */
const ENDED = 4410;

export class Translation {
  constructor(private readonly texts: ServerTexts) {}

  problem({ code, close_code, for_person, owner }: Problem): string {
    const { ends, problems, link_used } = this.texts;
    if (code === "ticket_used" && typeof owner === "string") return fill(link_used, { owner });
    return (close_code === ENDED ? ends[code] : problems[code]) ?? for_person;
  }

  session(session: SessionView): SessionView {
    const { policies, unexpected_address } = this.texts;
    const { for_person, provider_name, policy, sign_in } = session;
    const { prompt, unexpected_address: address } = sign_in;
    return {
      ...session,
      for_person: this.#situation(for_person),
      policy_sentence: this.#ofOwner(policies[policy] ?? session.policy_sentence, for_person.values.owner, {}),
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
    return this.#ofOwner(all, owner_name, { tool: provider_name, host: return_host ?? "" });
  }

  #situation(shown: ForPerson): ForPerson {
    const { situations, verdicts, ends, place, times, duration } = this.texts;
    const { tool, owner, host, instruction, position, wait_s, machines, idle_s_max, total_s_max, reason, verdict } = shown.values;
    const texts = situations[shown.situation];
    // A newer server may have other situations.
    if (texts === undefined) return shown;
    const values = {
      tool,
      host: host ?? "",
      instruction: this.#descriptor(instruction),
      place: place(position ?? 1, wait_s),
      machines: times(machines),
      idle_time: duration(idle_s_max),
      total_time: duration(total_s_max),
      reason: ends[reason ?? ""] ?? "",
    };
    const why = verdict === null ? shown.why : (verdicts[verdict] ?? shown.why);
    return {
      ...shown,
      title: fill(texts.title, values),
      sentence: this.#ofOwner(texts.sentence, owner, values),
      why: why === null ? null : fill(why, values),
      remote_browser: this.#remoteBrowser(shown, values),
      if_refused: shown.if_refused === null ? null : { ...shown.if_refused, sentence: this.#descriptor(shown.if_refused.sentence) },
    };
  }

  #remoteBrowser({ remote_browser, values: { owner } }: ForPerson, values: Values): ForPerson["remote_browser"] {
    const texts = remote_browser === null ? undefined : this.texts.situations[remote_browser.situation];
    if (remote_browser === null || texts === undefined) return remote_browser;
    const of_page = { ...values, host: remote_browser.host };
    return { ...remote_browser, title: fill(texts.title, of_page), sentence: this.#ofOwner(texts.sentence, owner, of_page) };
  }

  #ofOwner(template: string, owner: string | null, values: Values): string {
    return owner === null ? fill(withDescription(template, this.texts.owner), values) : fill(template, { ...values, owner });
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
