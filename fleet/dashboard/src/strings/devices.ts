// Words of the acts on many devices, and of named filters.
import { plural } from "../format";

export const views = {
  label: "View",
  choose: "Choose",
  save: "Save view",
  forget: (name: string) => `Forget “${name}”`,
  name: "Name of the view",
  hint: "Kept in this browser. To share a view, share the address.",
};

export const bulk = {
  tag: "Tag",
  cohort: "Save as cohort",
  rollOut: "Roll out to these",
  none: "No device matches.",
  tooMany: (max: number) =>
    `The server's filter knows sites, names, tags and hardware, not presence, phase, model or version: such devices are named one by one, at most ${max}, once all of them are shown. Narrow the filter or scroll to its end.`,
  everybody: "A cohort of everybody needs no name: choose a filter first",
  whomAll: "Every device.",
  fixed: "These devices by name, as they are now: what begins to match later is not meant.",
  tags: "Tags",
  tagsHint: "NAME=VALUE sets a tag, -NAME removes it; separated by commas.",
  typeTags: "Say which tags: the number of devices appears here first.",
  notATag: (part: string) => `“${part}” is no tag: write NAME=VALUE, or -NAME to remove one`,
  tagEffect: (changed: number, of: number) => (changed === 0 ? `All ${plural(of, "device")} are tagged so already.` : `Changes ${plural(changed, "device")} of the ${plural(of, "device")} that match.`),
  tagDo: (changed: number) => `Tag ${plural(changed, "device")}`,
  cohortName: "Name of the cohort",
  cohortFollows: "Asked anew for each rollout: devices that come to match later are in it too.",
  cohortFixed: "Names exactly these devices.",
  cohortDo: "Save",
  cohortReplace: "Replace",
  replaces: (name: string, filter: string) => `Replaces the cohort ${name}, which is “${filter}” now.`,
};
