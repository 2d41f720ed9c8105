// Signs in Codex with a device code: ANTEROOM_E2E_LINK=… node e2e/real/codex.mjs (see journey.mjs). The server's Codex provider must
// use an issuer that approves the code.

import { journey } from "./journey.mjs";
import { runCodexJourney } from "./play.mjs";

journey("codex", "Codex: start, desktop, device code, connected", runCodexJourney);
