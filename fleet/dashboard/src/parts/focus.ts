// Where the keyboard goes on after a dialog.

/** To what had it before, or else to the content. What has taken it meanwhile, such as a new page, keeps it. */
export function giveBack(before: HTMLElement | null): void {
  const { activeElement, body } = document;
  if (activeElement !== null && activeElement !== body) return;
  const there = before !== null && before !== body && before.isConnected ? before : document.getElementById("main");
  there?.focus({ preventScroll: true });
}
