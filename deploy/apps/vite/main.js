import { text } from "./text.js";

const show = text => { document.getElementById("text").textContent = text; };
show(text);
window.loaded = Date.now(); // a reload would lose what the test writes there
import.meta.hot.accept("./text.js", module => show(module.text));
