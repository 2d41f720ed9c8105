// The quality of the desktop's picture by the speed of the line, where the browser estimates it (Network Information API).

import { Store } from "./store";

interface NetworkInformation extends EventTarget {
  /** The kind of network that is as fast as this line: "slow-2g", "2g", "3g" or "4g". */
  readonly effectiveType: string;
  /** Whether the user asks for less data. */
  readonly saveData: boolean;
}

/** JPEG quality levels of the RFB protocol, 0 to 9; 6 is noVNC's default. */
const QUALITY_LEVEL = 6;
const SLOW_QUALITY_LEVEL = 3;

const connection = (navigator as Navigator & { connection?: NetworkInformation }).connection;

function presentQualityLevel(): number {
  if (connection === undefined) return QUALITY_LEVEL;
  return connection.saveData || connection.effectiveType !== "4g" ? SLOW_QUALITY_LEVEL : QUALITY_LEVEL;
}

export const quality_level = new Store(presentQualityLevel());
connection?.addEventListener("change", () => quality_level.set(presentQualityLevel()));
