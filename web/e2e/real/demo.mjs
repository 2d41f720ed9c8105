// Signs in the demo tool with the browser inside the machine, using only pointer and keys on the desktop's canvas:
// ANTEROOM_E2E_LINK=… node e2e/real/demo.mjs (see journey.mjs).

import { journey } from "./journey.mjs";
import { runDemoJourney } from "./play.mjs";

journey("demo", "Demo: start, sign in with the machine's browser, connected", runDemoJourney);
