// The files of a credential, without their content.

import type { CredentialFile } from "../api";
import { formatBytes, formatMode } from "../labels";

export function Files({ files }: { files: CredentialFile[] }) {
  return (
    <ul class="files">
      {files.map((file) => (
        <li key={file.path}>
          <code>~/{file.path}</code>{" "}
          <span class="muted">
            {formatBytes(file.bytes)}, {formatMode(file.mode)}
          </span>
        </li>
      ))}
    </ul>
  );
}
