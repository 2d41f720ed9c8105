// Signs in Gemini CLI with a pasted code: ANTEROOM_E2E_LINK=… node e2e/real/gemini_cli.mjs (see journey.mjs). Its identity provider must
// be a stand-in with one consent button (ANTEROOM_E2E_HOSTS).

import { journey } from "./journey.mjs";
import { runPastedCodeJourney } from "./play.mjs";

journey("gemini-cli", "Gemini CLI: start, link, pasted code, connected", (one) => runPastedCodeJourney(one, "gemini_cli"));
