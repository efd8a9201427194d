// The page: start the app and give tests a handle.
import { App } from "./app";
import "./styles/type.css";
import "./styles/shell.css";
import "./styles/play.css";
import "./styles/rooms.css";

const root = document.getElementById("app");
if (!root) throw new Error("no #app in the page");
const app = new App(root);

declare global {
  interface Window {
    /** For tests and the curious: what the page is doing. */
    rallypoint: App;
  }
}
window.rallypoint = app;
void app.start();
