// The live stream for the whole page: its state as a badge, and the button that freezes everything.
import { ActionIcon, Tooltip } from "@mantine/core";
import { focusManager, useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useMemo, useSyncExternalStore, type ReactNode } from "react";
import { Live, type LiveState } from "../api/live";
import type { Tone } from "../palette";
import { Icon } from "../parts/Icon";
import { State } from "../parts/State";
import { text } from "../strings";

const LiveContext = createContext<Live | null>(null);

export function LiveProvider({ children }: { children: ReactNode }) {
  const cache: QueryClient = useQueryClient();
  const live = useMemo(() => new Live(cache), [cache]);
  useEffect(() => live.start(), [live]);
  return <LiveContext.Provider value={live}>{children}</LiveContext.Provider>;
}

export function useLive(): { state: LiveState; toggle: () => void } {
  const live = useContext(LiveContext);
  if (live === null) throw new Error("useLive stands outside LiveProvider");
  const state = useSyncExternalStore(live.subscribe, live.current);
  const toggle = (): void => {
    const pausing = live.current() !== "paused";
    live.setPaused(pausing);
    // Unfocused, the cache asks for nothing on a timer: what is shown stands still.
    focusManager.setFocused(pausing ? false : undefined);
  };
  return { state, toggle };
}

const tones: Record<LiveState, Tone> = { connecting: "busy", live: "good", reconnecting: "warn", paused: "warn" };

export function LiveBadge() {
  const { state, toggle } = useLive();
  const paused = state === "paused";
  return (
    <>
      <span role="status" className="small" data-live={state}>
        <State is={state} tone={tones[state]} word={text.live[state]} />
      </span>
      <Tooltip label={paused ? text.live.resume : text.live.pauseHint}>
        <ActionIcon variant="default" size="md" onClick={toggle} aria-label={paused ? text.live.resume : text.live.pause} aria-pressed={paused}>
          <Icon name={paused ? "play" : "pause"} size={16} />
        </ActionIcon>
      </Tooltip>
    </>
  );
}
