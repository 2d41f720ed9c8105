// For whom the page shows errors: a person reads one sentence without names of the API, an operator all that the server knows.

import { createContext } from "preact";

export type Audience = "person" | "operator";

export const AudienceContext = createContext<Audience>("person");
