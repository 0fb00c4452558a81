/**
 * The YAML writer, for commands that load it only when they are asked for YAML. The package is CommonJS: its named
 * exports are reliably there for a static import only.
 */
export { stringify } from 'yaml';
