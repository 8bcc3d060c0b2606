// Addresses and their pages.
import { createRootRoute, createRoute, createRouter, lazyRouteComponent, retainSearchParams } from "@tanstack/react-router";
import { Device } from "./pages/Device";
import { Devices } from "./pages/Devices";
import { DriftPage } from "./pages/Drift";
import { Models } from "./pages/Models";
import { OverviewPage } from "./pages/Overview";
import { RolloutPage } from "./pages/Rollout";
import { Rollouts } from "./pages/Rollouts";
import { RunPage } from "./pages/Run";
import { Runs } from "./pages/Runs";
import { Problem } from "./parts/Answer";
import {
  auditSearch,
  devicesSearch,
  driftSearch,
  modelsSearch,
  newRolloutSearch,
  parseAddress,
  printAddress,
  rolloutSearch,
  rolloutsSearch,
  sharedSearch,
} from "./search";
import { Shell } from "./shell/Shell";
import { text } from "./strings";

const root = createRootRoute({
  component: Shell,
  validateSearch: sharedSearch,
  search: { middlewares: [retainSearchParams(["zone"])] },
  notFoundComponent: () => <p>{text.problem.notFound}</p>,
  errorComponent: ({ error }) => <Problem error={new Error(`${text.problem.crashed} (${error instanceof Error ? error.message : String(error)})`)} />,
});

const children = [
  createRoute({ getParentRoute: () => root, path: "/", component: OverviewPage }),
  createRoute({ getParentRoute: () => root, path: "/rollouts", component: Rollouts, validateSearch: rolloutsSearch }),
  createRoute({ getParentRoute: () => root, path: "/rollouts/new", component: lazyRouteComponent(() => import("./pages/plan/NewRollout"), "NewRollout"), validateSearch: newRolloutSearch }),
  createRoute({ getParentRoute: () => root, path: "/rollouts/$id", component: RolloutPage, validateSearch: rolloutSearch }),
  createRoute({ getParentRoute: () => root, path: "/devices", component: Devices, validateSearch: devicesSearch }),
  createRoute({ getParentRoute: () => root, path: "/devices/$id", component: Device }),
  createRoute({ getParentRoute: () => root, path: "/models", component: Models, validateSearch: modelsSearch }),
  createRoute({ getParentRoute: () => root, path: "/models/$sha256", component: lazyRouteComponent(() => import("./pages/Bundle"), "BundlePage") }),
  createRoute({ getParentRoute: () => root, path: "/drift", component: DriftPage, validateSearch: driftSearch }),
  createRoute({ getParentRoute: () => root, path: "/runs", component: Runs }),
  createRoute({ getParentRoute: () => root, path: "/runs/$id", component: RunPage }),
  createRoute({ getParentRoute: () => root, path: "/login", component: lazyRouteComponent(() => import("./pages/Login"), "LoginPage") }),
  createRoute({ getParentRoute: () => root, path: "/setup", component: lazyRouteComponent(() => import("./pages/Login"), "SetupPage") }),
  createRoute({ getParentRoute: () => root, path: "/audit", component: lazyRouteComponent(() => import("./pages/Audit"), "Audit"), validateSearch: auditSearch }),
  createRoute({ getParentRoute: () => root, path: "/access", component: lazyRouteComponent(() => import("./pages/access/Access"), "Access") }),
  createRoute({ getParentRoute: () => root, path: "/settings", component: lazyRouteComponent(() => import("./pages/settings/Settings"), "Settings") }),
] as const;

export const router = createRouter({
  routeTree: root.addChildren(children),
  parseSearch: parseAddress,
  stringifySearch: printAddress,
  scrollRestoration: true,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
