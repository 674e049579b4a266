/* Keeps the files of the folder, so that the page works without a network after the first visit.
 *
 * A server that answers is always asked first: an export may have been written anew.
 */

const KEPT = "lightxling";

self.addEventListener("install", (event) => event.waitUntil(keep()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));
self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  const isOurs = method === "GET" && url.startsWith(self.registration.scope);
  if (isOurs) event.respondWith(answer(event.request));
});

async function keep() {
  const cache = await caches.open(KEPT);
  const response = await fetch("config.json", { cache: "no-cache" });
  const { files } = await response.clone().json();
  await cache.put("config.json", response);
  await cache.addAll(["./", ...Object.keys(files)]);
  await self.skipWaiting();
}

async function answer(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request);
    if (kept) return kept;
    throw error;
  }
}
