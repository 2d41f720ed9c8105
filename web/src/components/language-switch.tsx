// Buttons that change the language of the page.

import { chooseLanguage } from "../language";
import { useStore } from "../store";
import { isLanguage, language, LANGUAGES, texts } from "../texts";

export function LanguageSwitch() {
  const current = useStore(language);
  return (
    <div class="languages" role="group" aria-label={texts.language}>
      {Object.entries(LANGUAGES).map(([code, name]) => (
        <button
          key={code}
          type="button"
          lang={code}
          aria-pressed={code === current}
          onClick={() => {
            // Without the texts, the page stays as it is.
            if (isLanguage(code)) chooseLanguage(code).catch(() => undefined);
          }}
        >
          {code.toUpperCase()}
          <span class="visually-hidden"> {name}</span>
        </button>
      ))}
    </div>
  );
}
