// SPDX-License-Identifier: Apache-2.0

// Makes calls with the official Node SDK for a test that reads along: one JSON
// request per line in, {service, action, params}; one line out for each, the
// answer or {refused: "CODE: message"}.
//
//	node calls.js SDK-DIR ENDPOINT SIGN-METHOD HTTP-METHOD
"use strict";

const path = require("path");
const readline = require("readline");

const [, , sdkDir, endpoint, signMethod, reqMethod] = process.argv;
const sdk = path.join(path.resolve(sdkDir), "node_modules", "tencentcloud-sdk-nodejs", "tencentcloud");
const versions = { vpc: "v20170312", cvm: "v20170312", clb: "v20180317", tag: "v20180813", ssl: "v20191205" };
const clients = {};
for (const [name, version] of Object.entries(versions)) {
  const { Client } = require(path.join(sdk, "services", name))[name][version];
  clients[name] = new Client({
    credential: { secretId: process.env.SECRET_ID, secretKey: process.env.SECRET_KEY },
    region: "local",
    profile: { signMethod, httpProfile: { endpoint, protocol: "http://", reqMethod, reqTimeout: 20 } },
  });
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const { service, action, params } = JSON.parse(line);
    let out;
    try {
      out = await clients[service][action](params);
    } catch (e) {
      out = { refused: `${e.code}: ${e.message}` };
    }
    console.log(JSON.stringify(out));
  }
})();
