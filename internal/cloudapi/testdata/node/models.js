// SPDX-License-Identifier: Apache-2.0

// Answers checked against the models that the SDK publishes. They exist only
// as declarations (.d.ts), so those are read here.
"use strict";

const fs = require("fs");
const path = require("path");

// readModels gives a service's models as {Name: {Field: {type, optional}}}, and
// the answer of each action as {Action: Name}.
function readModels(dir) {
  const files = fs.readdirSync(dir);
  const text = (suffix) =>
    fs.readFileSync(path.join(dir, files.find((f) => f.endsWith(suffix))), "utf8").replace(/\/\*[\s\S]*?\*\//g, "");
  const models = {};
  for (const [, name, body] of text("_models.d.ts").matchAll(/export interface (\w+) \{([\s\S]*?)\n\}/g)) {
    models[name] = {};
    for (const [, field, mark, type] of body.matchAll(/^\s*(\w+)(\??):\s*(.+);\s*$/gm)) {
      models[name][field] = { type, optional: mark === "?" };
    }
  }
  const answers = {};
  for (const [, action, name] of text("_client.d.ts").matchAll(/^\s*(\w+)\(req\??: \w+,.*Promise<(\w+)>;\s*$/gm)) {
    answers[action] = name;
  }
  if (Object.keys(models).length === 0 || Object.keys(answers).length === 0) {
    throw new Error(`${dir} declares no models or no actions`);
  }
  return { models, answers };
}

// faults lists what is wrong with a value of a type. A field that the model
// does not have is a fault unless it is ours; null stands for an absent one.
function faults(models, type, value, at, ours) {
  const list = /^Array<(.+)>$/.exec(type);
  if (list) {
    if (!Array.isArray(value)) return [`${at} is ${show(value)}, want a list`];
    return value.flatMap((v, i) => faults(models, list[1], v, `${at}.${i}`, ours));
  }
  if (type === "any") return [];
  if (type === "string" || type === "boolean") return typeof value === type ? [] : [`${at} is ${show(value)}, want a ${type}`];
  if (type === "number") return Number.isFinite(value) ? [] : [`${at} is ${show(value)}, want a number`];
  const model = models[type];
  if (!model) return [`${at} has the type ${type}, which the SDK does not declare`];
  if (typeof value !== "object" || value === null || Array.isArray(value)) return [`${at} is ${show(value)}, want ${type}`];
  const found = [];
  for (const [field, v] of Object.entries(value)) {
    if (model[field] && v !== null) found.push(...faults(models, model[field].type, v, `${at}.${field}`, ours));
    if (!model[field] && !ours.includes(field)) found.push(`${at}.${field} is not in the SDK's ${type}`);
  }
  for (const [field, { optional }] of Object.entries(model)) {
    if (!optional && (value[field] === undefined || value[field] === null)) found.push(`${at}.${field} is missing`);
  }
  return found;
}

const show = (value) => JSON.stringify(value) ?? "absent";

module.exports = { readModels, faults };
