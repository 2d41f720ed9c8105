// The files of a credential, without their bytes.

import type { CredentialFile } from "../api";
import { bytesWords, modeWords } from "../labels";

export function Files({ files }: { files: CredentialFile[] }) {
  return (
    <ul class="files">
      {files.map((file) => (
        <li key={file.path}>
          <code>~/{file.path}</code>{" "}
          <span class="quiet">
            {bytesWords(file.bytes)}, {modeWords(file.mode)}
          </span>
        </li>
      ))}
    </ul>
  );
}
