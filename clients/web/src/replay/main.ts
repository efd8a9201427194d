// The replay's page: start it and give tests a handle.
import { ReplayApp } from "./app";
import "../page/styles/type.css";
import "../page/styles/shell.css";
import "../page/styles/play.css";
import "./replay.css";

const root = document.getElementById("replay");
if (!root) throw new Error("no #replay in the page");
const app = new ReplayApp(root);

declare global {
  interface Window {
    /** For tests and the curious: what the page is doing. */
    replayed: ReplayApp;
  }
}
window.replayed = app;
void app.start();
