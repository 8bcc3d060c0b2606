// The frame around every page: skip link, header, navigation.
import { ActionIcon, Tooltip, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { Brand, Icon, type IconName } from "../parts/Icon";
import { text } from "../strings";
import { Account } from "./Account";
import { Clocks } from "./Clocks";
import { Freezes } from "./Freezes";
import { LiveBadge, useLive } from "./live";
import { Seek } from "./Seek";
import { HelpDialog, useShortcuts } from "./shortcuts";
import { Zone } from "./zone";

const entries = [
  { to: "/", label: text.nav.overview, icon: "overview" },
  { to: "/rollouts", label: text.nav.rollouts, icon: "rollouts" },
  { to: "/devices", label: text.nav.devices, icon: "devices" },
  { to: "/models", label: text.nav.models, icon: "models" },
  { to: "/drift", label: text.nav.drift, icon: "drift" },
  { to: "/runs", label: text.nav.runs, icon: "runs" },
  { to: "/audit", label: text.nav.audit, icon: "audit" },
  { to: "/settings", label: text.nav.settings, icon: "settings" },
] as const satisfies { to: string; label: string; icon: IconName }[];

/** Who is not logged in sees the page alone: the frame asks for what is not theirs to see. */
export function Shell() {
  const { pathname } = useLocation();
  return pathname === "/login" || pathname === "/setup" ? <Outlet /> : <Frame />;
}

function Frame() {
  const [help, setHelp] = useState(false);
  const seek = useRef<HTMLInputElement>(null);
  const { toggle } = useLive();
  useShortcuts({ search: () => seek.current?.focus(), help: () => setHelp(true), pause: toggle });
  return (
    <>
      <a className="skip" href="#main">
        {text.skip}
      </a>
      <div className="frame">
        <header className="top">
          <Link to="/" className="brand">
            <Brand />
            {text.product}
          </Link>
          <Seek field={seek} />
          <span className="grow" />
          <Clocks />
          <Zone />
          <LiveBadge />
          <Account />
          <ThemeToggle />
          <Tooltip label={text.help.open}>
            <ActionIcon variant="default" size="md" onClick={() => setHelp(true)} aria-label={text.help.open}>
              <Icon name="help" size={17} />
            </ActionIcon>
          </Tooltip>
        </header>
        <Navigation />
        <Main />
      </div>
      <HelpDialog opened={help} onClose={() => setHelp(false)} />
    </>
  );
}

function Navigation() {
  return (
    <nav className="side" aria-label={text.nav.label}>
      <ul>
        {entries.map(({ to, label, icon }) => (
          <li key={to}>
            <Link to={to} activeOptions={{ exact: to === "/", includeSearch: false }}>
              <Icon name={icon} />
              {label}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}

/** After a change of page, reading and tabbing begin at its content. */
function Main() {
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const before = useRef(pathname);
  useEffect(() => {
    if (before.current !== pathname) main.current?.focus({ preventScroll: true });
    before.current = pathname;
  }, [pathname]);
  return (
    <main className="main" id="main" ref={main} tabIndex={-1}>
      <Freezes />
      <Outlet />
    </main>
  );
}

function ThemeToggle() {
  const { setColorScheme } = useMantineColorScheme();
  const dark = useComputedColorScheme("light", { getInitialValueInEffect: false }) === "dark";
  const label = dark ? text.theme.toLight : text.theme.toDark;
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" size="md" onClick={() => setColorScheme(dark ? "light" : "dark")} aria-label={label}>
        <Icon name={dark ? "sun" : "moon"} size={17} />
      </ActionIcon>
    </Tooltip>
  );
}
