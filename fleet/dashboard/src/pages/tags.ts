// One line of tags, as people write them: `ward=icu, -legacy` sets one and removes the other. Pure.
import { text } from "../strings";

export interface TagChange {
  set: Record<string, string>;
  remove: string[];
}

/** Of what stands in the field, once it is the line that the server is asked about: Enter never sends an earlier one. */
export function settledTags(typed: string, asked: string): TagChange | string {
  return typed === asked ? tagsOf(asked) : text.bulk.typeTags;
}

/** Or what is wrong with it. */
export function tagsOf(line: string): TagChange | string {
  const change: TagChange = { set: {}, remove: [] };
  for (const part of line.split(",").map((one) => one.trim())) {
    if (part === "") continue;
    const [name = "", ...rest] = part.split("=");
    const bare = name.trim();
    if (bare.startsWith("-") && rest.length === 0 && bare.length > 1) change.remove.push(bare.slice(1).trim());
    else if (rest.length > 0 && bare !== "" && !bare.startsWith("-")) change.set[bare] = rest.join("=").trim();
    else return text.bulk.notATag(part);
  }
  return Object.keys(change.set).length + change.remove.length === 0 ? text.bulk.typeTags : change;
}
