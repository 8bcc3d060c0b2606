// One line of tags, as people write them: `ward=icu, -legacy` sets one and removes the other. Pure.
import { text } from "../strings";

export interface TagChange {
  set: Record<string, string>;
  remove: string[];
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
