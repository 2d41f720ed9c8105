// The addresses of the operators' pages. A change of the address renders another page without loading the document again.

import { Store, useStore } from "../store";

export interface Address {
  /** After `/admin`, without slashes at the ends: `sessions/ses_…`; `""` is the overview. */
  path: string;
  query: URLSearchParams;
}

const BASE = "/admin";

function currentAddress(): Address {
  const { pathname, search } = window.location;
  return { path: pathname.slice(BASE.length).replace(/^\/+|\/+$/g, ""), query: new URLSearchParams(search) };
}

const address = new Store<Address>(currentAddress());
window.addEventListener("popstate", () => address.set(currentAddress()));

export function useAddress(): Address {
  return useStore(address);
}

/** The address of a page; parameters that are empty are left out. */
export function hrefOf(path: string, query: Record<string, string | undefined> = {}): string {
  const set = Object.entries(query).filter((entry): entry is [string, string] => entry[1] !== undefined && entry[1] !== "");
  const search = new URLSearchParams(set).toString();
  return `${BASE}${path === "" ? "" : `/${path}`}${search === "" ? "" : `?${search}`}`;
}

/** Shows another page. `replace`: the address that is left is not in the history. */
export function navigate(href: string, replace = false): void {
  if (replace) window.history.replaceState(null, "", href);
  else window.history.pushState(null, "", href);
  address.set(currentAddress());
  if (!replace) window.scrollTo(0, 0);
}

/** Follows links to operators' pages without loading the document. Returns the function that stops it. */
export function followLinks(): () => void {
  const onClick = (event: MouseEvent) => {
    if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (link === null || link.target !== "" || link.origin !== window.location.origin) return;
    if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return;
    if (link.hash !== "") return;
    event.preventDefault();
    navigate(link.pathname + link.search);
  };
  document.addEventListener("click", onClick);
  return () => document.removeEventListener("click", onClick);
}
