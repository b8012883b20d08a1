// SPDX-License-Identifier: Apache-2.0

// The document's example by the official Node SDK: a public load balancer,
// HTTP:80, two instances on 8080, a group at each gate. Every answer is
// checked against the SDK's own models.
//
//	node example.js SDK-DIR ENDPOINT SIGN-METHOD HTTP-METHOD
//
// SDK-DIR holds node_modules; the key comes from SECRET_ID and SECRET_KEY. The
// last line of output is JSON for the test: what was made and how many answers
// were checked.
"use strict";

const assert = require("assert");
const path = require("path");
const { readModels, faults } = require("./models.js");

const [, , sdkDir, endpoint, signMethod, reqMethod] = process.argv;
const sdk = path.join(path.resolve(sdkDir), "node_modules", "tencentcloud-sdk-nodejs", "tencentcloud");
const versions = { vpc: "v20170312", cvm: "v20170312", clb: "v20180317", tag: "v20180813" };
const ours = ["HealthReason", "PolicyId", "HostName"]; // in answers; they are ours alone

const clients = {};
const declared = {};
for (const [name, version] of Object.entries(versions)) {
  declared[name] = readModels(path.join(sdk, "services", name, version));
  clients[name] = makeClient(name, process.env.SECRET_KEY);
}

function makeClient(name, secretKey) {
  const { Client } = require(path.join(sdk, "services", name))[name][versions[name]];
  return new Client({
    credential: { secretId: process.env.SECRET_ID, secretKey },
    region: "local",
    profile: { signMethod, httpProfile: { endpoint, protocol: "https://", reqMethod, reqTimeout: 20 } },
  });
}

let checked = 0;

// ask sends an action that must succeed and checks its answer.
async function ask(service, action, params = {}) {
  let answer;
  try {
    answer = await clients[service][action](params);
  } catch (e) {
    throw new Error(`${service} ${action} ${JSON.stringify(params)}: ${e.code}: ${e.message}`);
  }
  const { models, answers } = declared[service];
  assert.ok(answers[action], `the SDK declares no answer of ${action}`);
  assert.deepStrictEqual(faults(models, answers[action], answer, action, ours), []);
  assert.match(answer.RequestId, /^[0-9a-f-]{36}$/, action);
  checked++;
  return answer;
}

// refused sends an action that must fail, and checks code, message and that
// the exception has a RequestId.
async function refused(client, action, params, code, message) {
  await assert.rejects(client[action](params), (e) => {
    assert.strictEqual(e.code, code, `${action}: ${e.message}`);
    assert.match(e.message, message, action);
    assert.match(e.requestId, /^[0-9a-f-]{36}$/, action);
    return true;
  });
  checked++;
}

const rule = (Protocol, Port, Action, CidrBlock = "0.0.0.0/0") => ({ Protocol, Port, Action, CidrBlock });

async function group(name, ingress) {
  const { SecurityGroup } = await ask("vpc", "CreateSecurityGroup", { GroupName: name, GroupDescription: "of the example" });
  const SecurityGroupId = SecurityGroup.SecurityGroupId;
  await ask("vpc", "CreateSecurityGroupPolicies", { SecurityGroupId, SecurityGroupPolicySet: { Ingress: ingress } });
  const { SecurityGroupPolicySet: set } = await ask("vpc", "DescribeSecurityGroupPolicies", { SecurityGroupId });
  assert.deepStrictEqual(
    set.Ingress.map((p) => [p.PolicyIndex, p.Protocol.toUpperCase(), p.Action, p.CidrBlock]),
    ingress.map((p, i) => [i, p.Protocol, p.Action, p.CidrBlock]),
  );
  return SecurityGroupId;
}

async function network() {
  const { Vpc } = await ask("vpc", "CreateVpc", { VpcName: "site", CidrBlock: "10.1.0.0/16" });
  const { Subnet } = await ask("vpc", "CreateSubnet", { VpcId: Vpc.VpcId, SubnetName: "web", CidrBlock: "10.1.1.0/24", Zone: "local-1" });
  return { vpc: Vpc.VpcId, subnet: Subnet.SubnetId };
}

// settled polls an asynchronous action as programs do.
async function settled(TaskId) {
  for (;;) {
    const task = await ask("clb", "DescribeTaskStatus", { TaskId });
    if (task.Status !== 2) {
      assert.strictEqual(task.Status, 0, task.Message);
      return task;
    }
  }
}

async function build() {
  const { vpc, subnet } = await network();
  const edge = await group("edge", [rule("TCP", "80", "ACCEPT"), rule("ALL", "ALL", "DROP")]);
  const web = await group("web", [rule("TCP", "8080", "ACCEPT"), rule("TCP", "22", "ACCEPT"), rule("TCP", "3389", "ACCEPT"), rule("ICMP", "ALL", "ACCEPT")]);
  const { InstanceIdSet: instances } = await ask("cvm", "RunInstances", {
    InstanceCount: 2, InstanceName: "web", ImageId: "img-lab", Placement: { Zone: "local-1" },
    VirtualPrivateCloud: { VpcId: vpc, SubnetId: subnet },
    InternetAccessible: { PublicIpAssigned: true, InternetMaxBandwidthOut: 10 },
    SecurityGroupIds: [web],
    TagSpecification: [{ ResourceType: "instance", Tags: [{ Key: "tier", Value: "web" }] }],
  });
  assert.strictEqual(instances.length, 2);
  const created = await ask("clb", "CreateLoadBalancer", { LoadBalancerType: "OPEN", LoadBalancerName: "demo", VpcId: vpc });
  const [clb] = (await settled(created.RequestId)).LoadBalancerIds;
  assert.match(clb, /^lb-\w{8}$/);
  const { ListenerIds } = await ask("clb", "CreateListener", { LoadBalancerId: clb, Ports: [80], Protocol: "HTTP", ListenerNames: ["web"] });
  const at = { LoadBalancerId: clb, ListenerId: ListenerIds[0] };
  const { LocationIds } = await ask("clb", "CreateRule", {
    ...at,
    Rules: [{ Domain: "www.example.com", Url: "/", HealthCheck: { HealthSwitch: 1, TimeOut: 2, IntervalTime: 2, HealthNum: 2, UnHealthNum: 2 } }],
  });
  const registered = await ask("clb", "RegisterTargets", { ...at, LocationId: LocationIds[0], Targets: instances.map((InstanceId) => ({ InstanceId, Port: 8080, Weight: 10 })) });
  await settled(registered.RequestId);
  await settled((await ask("clb", "SetLoadBalancerSecurityGroups", { LoadBalancerId: clb, SecurityGroups: [edge] })).RequestId);
  return { vpc, subnet, edge, web, instances, clb, listener: ListenerIds[0], location: LocationIds[0] };
}

async function describe(x) {
  const [lb] = (await ask("clb", "DescribeLoadBalancers", { LoadBalancerIds: [x.clb] })).LoadBalancerSet;
  assert.deepStrictEqual([lb.SecureGroups, lb.VpcId, lb.LoadBalancerVips.length], [[x.edge], x.vpc, 1]);
  const { Listeners } = await ask("clb", "DescribeListeners", { LoadBalancerId: x.clb });
  assert.deepStrictEqual([Listeners.length, Listeners[0].Port, Listeners[0].Rules[0].LocationId], [1, 80, x.location]);
  const backends = await ask("clb", "DescribeTargets", { LoadBalancerId: x.clb });
  assert.deepStrictEqual(backends.Listeners[0].Rules[0].Targets.map((t) => [t.InstanceId, t.Port, t.Weight]).sort(), x.instances.map((i) => [i, 8080, 10]).sort());
  const health = await ask("clb", "DescribeTargetHealth", { LoadBalancerIds: [x.clb] });
  assert.strictEqual(health.LoadBalancers[0].Listeners[0].Rules[0].Targets[0].HealthStatusDetail, "Unknown");
  const { InstanceSet } = await ask("cvm", "DescribeInstances", { InstanceIds: x.instances });
  assert.deepStrictEqual(InstanceSet.map((i) => i.SecurityGroupIds), [[x.web], [x.web]]);
  await ask("vpc", "DescribeVpcs", { VpcIds: [x.vpc] });
  await ask("vpc", "DescribeSubnets", { Filters: [{ Name: "vpc-id", Values: [x.vpc] }] });
  await ask("vpc", "DescribeRouteTables", { Filters: [{ Name: "vpc-id", Values: [x.vpc] }] });
  const groups = await ask("vpc", "DescribeSecurityGroups", { SecurityGroupIds: [x.edge, x.web] });
  assert.strictEqual(groups.TotalCount, 2);
  const { SecurityGroupAssociationStatisticsSet: use } = await ask("vpc", "DescribeSecurityGroupAssociationStatistics", { SecurityGroupIds: [x.edge, x.web] });
  assert.deepStrictEqual(use.map((s) => [s.SecurityGroupId, s.CLB, s.CVM]).sort(), [[x.edge, 1, 0], [x.web, 0, 2]].sort());
  const tags = await ask("tag", "DescribeResourceTagsByResourceIds", { ServiceType: "cvm", ResourcePrefix: "instance", ResourceRegion: "local", ResourceIds: x.instances });
  assert.strictEqual(tags.TotalCount, 2);
}

// change turns both gates and puts them back.
async function change(x) {
  const set = (Ingress) => ({ SecurityGroupId: x.edge, SecurityGroupPolicySet: { Ingress } });
  const drop = rule("TCP", "80", "DROP", "198.51.100.0/24");
  await ask("vpc", "CreateSecurityGroupPolicies", set([{ ...drop, PolicyIndex: 0 }]));
  await ask("vpc", "ReplaceSecurityGroupPolicy", set([{ ...drop, PolicyIndex: 0, PolicyDescription: "client-2" }]));
  await ask("vpc", "DeleteSecurityGroupPolicies", set([drop]));
  await ask("clb", "ModifyTargetWeight", { LoadBalancerId: x.clb, ListenerId: x.listener, LocationId: x.location, Targets: [{ InstanceId: x.instances[0], Port: 8080 }], Weight: 5 });
  await ask("clb", "ModifyLoadBalancerAttributes", { LoadBalancerId: x.clb, LoadBalancerPassToTarget: true });
  await ask("clb", "ModifyLoadBalancerAttributes", { LoadBalancerId: x.clb, LoadBalancerPassToTarget: false });
}

async function refusals(x) {
  await refused(clients.clb, "DescribeListeners", { LoadBalancerId: "lb-none0000" }, "InvalidParameter.LBIdNotFound", /lb-none0000/);
  await refused(clients.vpc, "DescribeSecurityGroupPolicies", { SecurityGroupId: "sg-none0000" }, "ResourceNotFound", /sg-none0000/);
  await refused(clients.vpc, "CreateVpc", { VpcName: "a", CidrBlock: "10.0.0.0/16", Colour: "red" }, "UnknownParameter", /Colour/);
  await refused(clients.vpc, "CreateVpc", { VpcName: "a" }, "MissingParameter", /CidrBlock/);
  await refused(clients.vpc, "DeleteSecurityGroup", { SecurityGroupId: x.edge }, "ResourceInUse", new RegExp(x.clb));
  await refused(makeClient("clb", "wrong"), "DescribeLoadBalancers", {}, "AuthFailure.SignatureFailure", /signature/);
}

// checkChecker makes sure that a wrong answer would be noticed.
function checkChecker() {
  const { models } = declared.vpc;
  const wrong = { TotalCount: "1", VpcSet: [{ VpcId: 3, IsDefault: "no", Colour: "red" }, null], RequestId: null };
  assert.deepStrictEqual(faults(models, "DescribeVpcsResponse", wrong, "A", ours), [
    'A.TotalCount is "1", want a number',
    "A.VpcSet.0.VpcId is 3, want a string",
    'A.VpcSet.0.IsDefault is "no", want a boolean',
    "A.VpcSet.0.Colour is not in the SDK's Vpc",
    "A.VpcSet.1 is null, want Vpc",
  ]);
}

(async () => {
  checkChecker();
  const made = await build();
  await describe(made);
  await change(made);
  await refusals(made);
  console.log(JSON.stringify({ ...made, checked }));
})().catch((e) => {
  console.error(e.stack || e);
  process.exitCode = 1;
});
