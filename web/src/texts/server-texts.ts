// The server's texts for people in another language: each is found by its code, and `{name}` in it is replaced by a value.
// `person-texts.json` has the English ones.

import type { ForPerson, SessionView } from "../api";

type Situation = ForPerson["situation"];
type Policy = SessionView["policy"];
type Verdict = NonNullable<ForPerson["values"]["verdict"]>;

export interface ServerTexts {
  situations: Record<Situation, { title: string; sentence: string }>;
  /** By the code of the error. */
  problems: Record<string, string>;
  /** By the code of the reason for which a session ended. */
  ends: Record<string, string>;
  /** By the verdict on a failure. */
  verdicts: Record<Verdict, string>;
  /** An owner without a name of its own: nominative and accusative, inside of a sentence. */
  owner: string;
  /** For who presents a used link. */
  link_used: string;
  policies: Record<Policy, string>;
  /** What the owner of a session asks the person. */
  requests: Record<Policy, string>;
  /** The end of each request whose session has an address to return to. */
  request_return: string;
  unexpected_address: string;
  /** The texts of the built-in descriptors of tools, by the English text. */
  descriptors: Record<string, string>;
  /** `{place}` */
  place: (position: number, wait_s: number | null) => string;
  /** `{machines}` */
  times: (count: number) => string;
  /** `{idle_time}`, `{total_time}` */
  duration: (seconds: number) => string;
}
