// The operators' pages at /admin.

import { render } from "preact";
import { AdminApp } from "./admin/app";
import { keepFocus } from "./keep-focus";

const root = document.getElementById("app");
if (root !== null) {
  keepFocus(root);
  render(<AdminApp />, root);
}
