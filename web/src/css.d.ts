// A style sheet as text: `build.mjs` bundles it into the script that imports it.

declare module "*.css" {
  const css: string;
  export default css;
}
