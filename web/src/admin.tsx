// The operators' pages at /admin.

import { render } from "preact";
import { AdminApp } from "./admin/app";

const root = document.getElementById("app");
if (root !== null) render(<AdminApp />, root);
