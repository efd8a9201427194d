// The operators' page: what runs now, one room from inside, and the two ways to intervene.
import { OperatorApp } from "./app";
import "../page/styles/type.css";
import "./operator.css";

const root = document.getElementById("operator");
if (!root) throw new Error("no #operator in the page");
new OperatorApp(root).start();
