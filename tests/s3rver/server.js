'use strict';
// A real S3 server (s3rver) behind what it leaves out: each request's SigV4 signature is compared
// with what aws4, an implementation that is not ours, makes of the request as it came, and its body
// with the hash that was signed.
//   node server.js DIRECTORY BUCKET SECRET SKEW_S
// Prints "port N" when it listens on 127.0.0.1:N; ends when its standard input does. The access key
// is S3RVER. SKEW_S: its clock is that far ahead.
const [directory, bucket, secret, skewText] = process.argv.slice(2);
const skewMs = Number(skewText) * 1000;

// Before anything else asks for the time.
const RealDate = Date;
global.Date = class extends RealDate {
    constructor(...args) {
        if (args.length === 0) super(RealDate.now() + skewMs);
        else super(...args);
    }
    static now() {
        return RealDate.now() + skewMs;
    }
};

const crypto = require('crypto');
const http = require('http');
const modules = process.cwd() + '/node_modules/';
const aws4 = require(modules + 'aws4');
const S3rver = require(modules + 's3rver');

function refuse(response, status, code) {
    response.writeHead(status, {'content-type': 'application/xml', date: new Date().toUTCString()});
    response.end(`<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code>` +
                 `<Message>refused by the tests' check of signatures</Message></Error>`);
}

// undefined: it is as it must be.
function fault(request, body) {
    const parts = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/
                      .exec(request.headers.authorization || '');
    if (!parts) return [403, 'AccessDenied'];
    const [, access, region, signed, signature] = parts;
    if (access !== 'S3RVER') return [403, 'InvalidAccessKeyId'];
    const headers = {}, include = {};
    for (const name of signed.split(';')) {
        headers[name] = request.headers[name];
        include[name] = true;
    }
    for (const name of Object.keys(request.headers))
        if ((name.startsWith('x-amz-') || name === 'host' || name === 'range') && !include[name])
            return [403, 'AccessDenied'];
    const ours = aws4.sign({
        service: 's3', region, method: request.method, path: request.url, headers,
        extraHeadersToInclude: include, doNotModifyHeaders: false,
    }, {accessKeyId: access, secretAccessKey: secret});
    if (!ours.headers.Authorization.endsWith('Signature=' + signature))
        return [403, 'SignatureDoesNotMatch'];
    const hash = request.headers['x-amz-content-sha256'];
    if (hash !== 'UNSIGNED-PAYLOAD' &&
        hash !== crypto.createHash('sha256').update(body).digest('hex'))
        return [400, 'XAmzContentSHA256Mismatch'];
    const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(request.headers['x-amz-date']);
    if (Math.abs(RealDate.UTC(at[1], at[2] - 1, at[3], at[4], at[5], at[6]) - Date.now()) > 900000)
        return [403, 'RequestTimeTooSkewed'];
    return undefined;
}

async function main() {
    const inner = await new S3rver({
        address: '127.0.0.1', port: 0, silent: true, directory, vhostBuckets: false,
        configureBuckets: bucket ? [{name: bucket, configs: []}] : [],
    }).run();
    const agent = new http.Agent({keepAlive: true});
    const server = http.createServer((request, response) => {
        const chunks = [];
        request.on('data', chunk => chunks.push(chunk));
        request.on('error', () => response.destroy());
        request.on('end', () => {
            const body = Buffer.concat(chunks), problem = fault(request, body);
            if (problem) return refuse(response, ...problem);
            const forward = http.request({
                host: '127.0.0.1', port: inner.port, agent, method: request.method,
                // A store may give fewer than asked for: several pages of a small list.
                path: request.url.replace('max-keys=1000', 'max-keys=40'), headers: request.headers,
            }, answer => {
                answer.headers.date = new Date().toUTCString();
                delete answer.headers.connection;
                response.writeHead(answer.statusCode, answer.headers);
                answer.pipe(response);
            });
            forward.on('error', () => response.destroy());
            forward.end(body);
        });
    });
    server.keepAliveTimeout = 60000;
    server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
    process.stdin.on('end', () => process.exit(0)).resume();
}

main().catch(error => {
    console.error(error);
    process.exit(1);
});
