// Codex, signed in by its device code: ANTEROOM_E2E_LINK=… node e2e/real/codex.mjs (see journey.mjs). The server's Codex
// provider must lead to an issuer that grants the code.

import { journey } from "./journey.mjs";
import { playCodex } from "./play.mjs";

journey("codex", "Codex: pick, desktop, device code, connected", playCodex);
