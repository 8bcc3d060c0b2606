// For tests: the first picture of a part as HTML, with the answers that it would find in the cache.
import { MantineProvider } from "@mantine/core";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { createElement, type ReactElement } from "react";
import { renderToStaticMarkup } from "react-dom/server";

export function rendered(part: ReactElement, known: [key: readonly unknown[], answer: unknown][] = []): string {
  const client = new QueryClient();
  for (const [key, answer] of known) client.setQueryData(key, answer);
  return renderToStaticMarkup(createElement(MantineProvider, null, createElement(QueryClientProvider, { client }, part)));
}
