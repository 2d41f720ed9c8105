// The demo provider, signed in by the browser inside the machine, with pointer and keys on the desktop's canvas alone:
// ANTEROOM_E2E_LINK=… node e2e/real/demo.mjs (see journey.mjs).

import { journey } from "./journey.mjs";
import { playDemo } from "./play.mjs";

journey("demo", "Demo: pick, sign in with the machine's own browser, connected", playDemo);
