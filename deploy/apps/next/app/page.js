"use client";
import { useState } from "react";
import { text } from "./text";

export default function Page() {
  const [n, more] = useState(0);
  return <button onClick={() => more(n + 1)}>{text} {n}</button>;
}
