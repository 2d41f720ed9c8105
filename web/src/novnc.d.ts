// What this project uses of noVNC's API (docs/API.md of the package, which ships no types).

declare module "@novnc/novnc" {
  interface RFBOptions {
    shared?: boolean;
    credentials?: { username?: string; password?: string; target?: string };
  }

  interface Events {
    connect: Event;
    disconnect: Event;
    securityfailure: Event;
    serververification: Event;
    /** `types`: which of username, password and target. */
    credentialsrequired: CustomEvent<{ types: string[] }>;
    /** A text was copied in the machine. */
    clipboard: CustomEvent<{ text: string }>;
  }

  export default class RFB extends EventTarget {
    addEventListener<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): void;
    constructor(target: HTMLElement, channel: string | WebSocket, options?: RFBOptions);
    scaleViewport: boolean;
    resizeSession: boolean;
    clipViewport: boolean;
    focusOnClick: boolean;
    showDotCursor: boolean;
    viewOnly: boolean;
    background: string;
    qualityLevel: number;
    compressionLevel: number;
    disconnect(): void;
    sendCredentials(given: { username?: string; password?: string; target?: string }): void;
    focus(options?: FocusOptions): void;
    blur(): void;
    /** Without `down`, presses and releases. */
    sendKey(keysym: number, code: string | null, down?: boolean): void;
    clipboardPasteFrom(text: string): void;
    /** Not in docs/API.md: asks the machine for the size of noVNC's element, at the latest at its next change. */
    _requestRemoteResize(): void;
    /** Not in docs/API.md: the size of noVNC's element, CSS pixels. */
    _screenSize(): { w: number; h: number };
  }
}
